"""Who may have what: users, networks, and the commands that change them."""
