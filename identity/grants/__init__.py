"""Grants: a role at a place of the tree, for a time."""
