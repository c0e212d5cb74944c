"""Organisations: prefecture, counties, institutions and departments, which own all data."""
