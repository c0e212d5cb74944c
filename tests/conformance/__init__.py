"""Independent implementations as peers."""
