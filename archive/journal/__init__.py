"""The journal: append-only segments on local disk, their records and what senders are told."""
