"""Host side: recipes, passes, pipeline, verification, reports and the command line."""
