"""Export: a trained autoencoder as a file that runs without aezoo."""
