"""Short messages to phones: kept in an outbox, carried by a provider, followed until delivered."""
