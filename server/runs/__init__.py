"""Runs of the pipeline: their rows in SQL, and where their files are."""
