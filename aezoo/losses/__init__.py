"""Losses: reconstruction terms and penalties."""
