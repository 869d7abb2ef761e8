"""Benchmarks that can be believed: models times delegates, timed side by side, each shown to compute as the CPU."""
