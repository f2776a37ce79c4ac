"""Specs: variants, recipes and their components as plain data. Nothing here imports torch."""
