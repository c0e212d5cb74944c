"""Decisions about stored studies: rows and an append-only log of objects, never rewrites."""
