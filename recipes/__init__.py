"""Recipes that CI runs, the programs that train their reference models, and those models."""
