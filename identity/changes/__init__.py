"""Telling every process that rights have changed, so that it looks again within five seconds."""
