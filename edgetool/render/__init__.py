"""Reports for people: one table for the terminal, one page for the browser."""
