"""Sealing: what the database alone must not show is encrypted under a secret beside it."""
