"""The search for passes and settings under limits: what is tried, in which order, and what is best so far."""
