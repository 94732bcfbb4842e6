"""A run: what it writes, measures and reports while it trains."""
