"""What is answered for a URL: the lists, the pages and the files of a store."""
