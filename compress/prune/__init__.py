"""Pruning: one algorithm, one file."""
