"""C-STORE, the Storage service (PS3.4 Annex B): from the wire into the archive's journal."""
