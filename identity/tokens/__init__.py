"""Secrets that are generated: made with enough chance, kept as their fingerprint only."""
