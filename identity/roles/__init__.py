"""Roles: named bundles of permissions for each duty, and which of them exclude each other."""
