"""A trained autoencoder at work: encode, decode, reconstruct and score files, in bounded memory."""
