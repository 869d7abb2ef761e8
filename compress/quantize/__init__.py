"""Quantization: one algorithm, one file."""
