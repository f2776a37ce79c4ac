"""Trained variants: load and verify, save, index, model cards, and the Hugging Face Hub."""
