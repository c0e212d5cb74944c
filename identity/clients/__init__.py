"""API clients: programs with a token of their own, and tokens of a person."""
