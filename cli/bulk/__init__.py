"""`latentd bulk`: samples by the million, in shards, each a function of the checkpoint, the order and its seeds alone."""
