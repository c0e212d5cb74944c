"""C-MOVE, retrieval towards another node (PS3.4 C.4.2)."""
