"""STOW-RS: storing instances sent as multipart/related (PS3.18 10.5)."""
