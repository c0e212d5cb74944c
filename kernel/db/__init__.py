"""Rows: one way to open SQLite or PostgreSQL, sessions within a scope, statements compiled once."""
