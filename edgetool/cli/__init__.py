"""Typer commands: each parses, calls one function and renders."""
