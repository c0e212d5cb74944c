"""Settling: series at rest move from the journal into packs with manifests."""
