"""How generators are served: catalog, batching engine, HTTP. Uses models/ alone."""
