"""Capabilities: tokens that open exactly what they name and can be narrowed by who holds them."""
