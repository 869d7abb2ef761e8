"""Channel pruning: which channels hang together, which of them matter least, and the smaller model without them."""
