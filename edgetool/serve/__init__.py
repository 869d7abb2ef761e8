"""`edgetool serve`: verified bundles behind HTTP, each model in processes of its own."""
