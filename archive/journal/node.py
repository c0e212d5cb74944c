"""This machine among its peers: its name, and the folder of its segments."""

from __future__ import annotations

import re
import socket
from pathlib import Path

from kernel.settings import Settings


def node_id(settings: Settings) -> str:
    """`node` of the settings, else the host name; letters, digits and hyphens only."""
    name = settings.node or socket.gethostname()
    return re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")[:32] or "node"


def journal_folder(settings: Settings) -> Path:
    """Where the segments lie."""
    return settings.data / "journal"
