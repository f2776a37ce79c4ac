"""Metrics, measured in one pass over a dataset, and protocols, which take several passes."""
