"""Presence: who is signed in at the moment."""
