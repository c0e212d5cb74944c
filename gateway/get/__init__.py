"""C-GET, retrieval on the asker's own association (PS3.4 C.4.3)."""
