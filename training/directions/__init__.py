"""Search for interpretable directions in a generator's latent space."""
