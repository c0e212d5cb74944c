"""Append-only streams chained by SHA-256: what was written cannot be unwritten unnoticed."""
