"""From requests to plans: one file an endpoint."""
