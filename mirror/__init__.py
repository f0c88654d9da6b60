"""The client's rooms, in the order in which a fileset passes through them."""

__version__ = "0.1.0"
