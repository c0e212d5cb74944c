"""The same SOP Instance UID received again: compared, kept, and decided."""
