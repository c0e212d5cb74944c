"""Applications: other programs in which people are signed in by us (OAuth 2.0 clients)."""
