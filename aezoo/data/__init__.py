"""Data: samples and their splits, user data to samples, preprocessing, noises and built-in datasets."""
