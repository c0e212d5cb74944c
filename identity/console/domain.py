"""What pages of administration offer to choose from and find, and what they are told of studies."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass

from dataset.names import fold
from dataset.pinyin import initials, of_text
from identity.organisations.domain import Organisation, Tree
from kernel.scope import Scope


@dataclass(frozen=True, slots=True)
class FoundStudy:
    """A study as the pages of access name it: its owner, and words that name no patient."""

    owner_id: int
    words: str


# The studies of a Study Instance UID, of every owner: this room does not know where studies are.
FindStudies = Callable[[str], Awaitable[Sequence[FoundStudy]]]


def within(tree: Tree, scope: Scope) -> list[Organisation]:
    """The organisations that a scope covers, parents first."""
    return [one for one in tree.subtree(None) if scope.covers(one.id)]


def places(
    tree: Tree, scope: Scope, *, kinds: Iterable[str] = (), retired: bool = False
) -> list[tuple[int, str, int]]:
    """Organisations to choose from: number, name, depth below the highest of them."""
    wanted = set(kinds)
    found = [
        one
        for one in within(tree, scope)
        if (not wanted or one.kind in wanted) and (retired or one.state != "retired")
    ]
    top = min((one.path.count("/") for one in found), default=0)
    return [(one.id, one.name, one.path.count("/") - top) for one in found]


def matches(text: str, *keys: str) -> bool:
    """Whether what was typed is in a key, or in its pinyin or initials."""
    typed = fold(text)
    return any(
        typed in fold(key) or typed in of_text(key) or typed in initials(key) for key in keys if key
    )
