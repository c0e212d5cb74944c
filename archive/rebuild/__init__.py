"""The index made again from manifests, the journal and the decision log."""
