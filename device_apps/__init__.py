"""Device apps: they import `edge` only (door lock and voice assistant follow in later issues)."""
