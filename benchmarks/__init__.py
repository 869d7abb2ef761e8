"""Programs that measure this toolkit; each writes benchmarks/results/<program>.json (design section 8)."""
