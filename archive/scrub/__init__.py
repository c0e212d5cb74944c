"""Scrub: stored objects are read back and their hashes checked."""
