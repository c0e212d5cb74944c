"""Signing in: password, lockout, second factor, and what must happen before anything else."""
