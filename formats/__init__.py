"""The formats of the files that people and pipelines write; parse_config is the door."""
