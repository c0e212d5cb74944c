"""Receiving: instances are taken, made durable and indexed; a dead writer is succeeded."""
