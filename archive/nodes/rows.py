"""Where a copy lies, as a condition: segments belong to a node, objects to everybody."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, and_, or_

from archive.index.tables import pack_copy
from archive.store.service import JOURNAL


def within_reach(node: str, copy: Any = pack_copy) -> ColumnElement[bool]:
    """Whether `node` can read a copy without asking another one."""
    return or_(copy.c.store != JOURNAL, copy.c.node_id == node)


def lies(node: str, *, elsewhere: bool = False) -> ColumnElement[bool]:
    """Whether a copy lies in the journal of `node`, or with `elsewhere` of another one."""
    held = pack_copy.c.node_id != node if elsewhere else pack_copy.c.node_id == node
    return and_(pack_copy.c.store == JOURNAL, held)
