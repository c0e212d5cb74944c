"""Owners: the institutions whose data are kept apart."""

from sqlalchemy import Column, Integer, Table, Text

from kernel.db.base import metadata

# `path` is the place in the tree of organisations (`/52/5226/522632/H0123`) and lives only here:
# a hospital that moves to another county changes one row. Row 1 is `/local`.
owner = Table(
    "owner",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("path", Text, nullable=False, unique=True),
    Column("state", Text, nullable=False),
)
