"""Several machines on one database and one object store: who has what, and reading from there."""
