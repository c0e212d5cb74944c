"""C-ECHO, the Verification service (PS3.4 Annex A)."""
