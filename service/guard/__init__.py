"""Protection of the service: tokens, and limits of bodies and connections. SECURITY.md lists attacks and tests."""
