"""The server half: builds, registers and serves a Data Store (python -m server COMMAND)."""
