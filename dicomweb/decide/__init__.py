"""Deciding over HTTP: what people say about stored studies, as JSON below /api."""
