"""Decoding of stored frames: codecs in worker processes with memory and time limits."""
