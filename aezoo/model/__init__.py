"""The network: layers, sequences of layers, and the autoencoder that is built from a spec."""
