"""Many devices: which there are, what runs on each, an update in canary waves, and what the update did to them."""
