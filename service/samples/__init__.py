"""From a request for samples to its answer: compute the latents, run the engine, write the body."""
