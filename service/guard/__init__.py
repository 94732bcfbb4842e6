"""Who may ask, and what may come in. SECURITY.md says against whom each part stands, and which test shows it."""
