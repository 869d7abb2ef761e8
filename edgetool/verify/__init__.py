"""Verification: accuracy gate, latency race, parity (design section 6)."""
