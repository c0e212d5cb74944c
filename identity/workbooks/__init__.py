"""Workbooks of organisations, brought in as background work."""
