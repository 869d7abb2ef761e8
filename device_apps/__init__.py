"""Device apps: each in a room of its own, what they share beside it. They import `edge` and the extra `apps` only."""
