"""Events: an outbox written with the change, numbered after commit, delivered at least once."""
