"""The guard of every route: who asks, and which owners that opens, from what is in memory."""
