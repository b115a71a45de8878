"""The tool worker service: runs the calls of one pool."""
