"""Serves generators: catalog, batching engine, HTTP. It imports models/, but not training/ or cli/."""
