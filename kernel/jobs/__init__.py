"""Durable background work: queued with the change that needs it, survives a crash."""
