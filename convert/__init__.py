"""Conversion between model formats, and loading of every format the host accepts."""
