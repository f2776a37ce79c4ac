"""Plugins: the hooks, the registry of kinds, and a template for new packages."""
