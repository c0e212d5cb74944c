"""Access decisions: who may do what with whose data, and why."""
