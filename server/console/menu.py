"""The main menu, read from `server/navigation.toml`."""

from __future__ import annotations

import tomllib
from pathlib import Path

from kernel.web.guard import PERMISSIONS
from kernel.web.pages import NavigationGroup, NavigationItem

FILE = Path(__file__).parent.parent / "navigation.toml"


def menu() -> list[NavigationGroup]:
    """Groups and places in their order; raises ValueError for a permission that there is not."""
    with FILE.open("rb") as file:
        tree = tomllib.load(file)
    groups = []
    for group in tree["group"]:
        items = [
            NavigationItem(one["href"], one["title"], one["icon"], one["permission"])
            for one in group["item"]
        ]
        unknown = {one.permission for one in items} - set(PERMISSIONS)
        if unknown:
            raise ValueError(f"navigation.toml names no permissions: {unknown}")
        groups.append(NavigationGroup(group.get("title", ""), items))
    return groups
