"""The object store: packs and metadata as immutable objects in local files or S3."""
