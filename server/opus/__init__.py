"""Paths, processes, triggers and the blackboard: the OPUS way of running things (OPUS)."""
