"""Who may ask, and what may come in. SECURITY.md lists the attacks, the defences and their tests."""
