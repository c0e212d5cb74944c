"""The journal: append-only segments on local disk where every received instance lands first."""
