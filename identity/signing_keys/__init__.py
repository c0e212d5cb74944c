"""The keys that sign what we say about people to applications, published and followed in time."""
