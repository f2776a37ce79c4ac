"""A self-contained HTML page that explains a trained autoencoder, latent by latent."""
