"""Finding directions in latent space that a person has a word for."""
