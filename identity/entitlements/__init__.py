"""Entitlements: who holds which role where, for reviewing all of it at once."""
