"""What rooms are told that they cannot know: whose a study is, what places, people are called."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

from archive.query.domain import Query
from archive.query.service import Catalog
from dataset.refs import StudyRef
from identity.accounts.service import list_accounts, names_of
from identity.clients.service import client_names, list_clients
from identity.console.domain import FindStudies, FoundStudy, places
from identity.organisations.service import load_tree
from kernel.audit_pages.pages import Who
from kernel.db.database import Database
from kernel.errors import AppError
from kernel.scope import Scope

_STUDY_UID, _DATE, _DESCRIPTION, _MODALITIES = 0x0020000D, 0x00080020, 0x00081030, 0x00080061
_NAMING = Scope.system("names")
_SCOPE = Scope.system("whose study")
MOST = 10
MOST_CALLED = 100


def study_finder(catalog: Catalog) -> FindStudies:
    """Finds the studies of a Study Instance UID of every owner; none for what is no UID."""

    async def find(study_instance_uid: str) -> list[FoundStudy]:
        try:
            ref = StudyRef.parse(study_instance_uid)
        except AppError:
            return []
        query = Query("STUDY", {_STUDY_UID: ref.study_instance_uid}, limit=MOST)
        page = await catalog.search(_SCOPE, query)
        return [FoundStudy(one.owner_id, _words(one.dataset)) for one in page.matches]

    return find


def place_names(
    database: Database,
) -> Callable[[Scope], Awaitable[Sequence[tuple[int, str, int]]]]:
    """Gives the organisations that a scope covers: number, name, depth."""

    async def find(scope: Scope) -> Sequence[tuple[int, str, int]]:
        async with database.session(scope) as session:
            return places(await load_tree(session), scope)

    return find


class ActorNames:
    """What people and programs of the audit are called; others have no name."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def of(self, actors: Collection[Who]) -> Mapping[Who, str]:
        """The names of those that are known, in two queries."""
        found: dict[Who, str] = {}
        async with self._database.session(_NAMING) as session:
            for kind, names_for in (("session", names_of), ("client", client_names)):
                ids = {int(one) for of, one in actors if of == kind and one.isdecimal()}
                names = await names_for(session, ids)
                found |= {(kind, str(number)): name for number, name in names.items()}
        return found

    async def called(self, text: str) -> Collection[Who]:
        """Those whose name or login name holds the text; the first hundred of each kind."""
        async with self._database.session(_NAMING) as session:
            people = await list_accounts(session, _NAMING, text=text, limit=MOST_CALLED)
            programs = await list_clients(session, _NAMING, text=text, limit=MOST_CALLED)
        found = [("session", str(one.id)) for one in people]
        return found + [("client", str(one.id)) for one in programs]


def _words(dataset: dict[str, dict[str, object]]) -> str:
    parts = []
    for tag in (_DATE, _MODALITIES, _DESCRIPTION):
        value = dataset.get(f"{tag:08X}", {}).get("Value", [])
        if isinstance(value, list) and value:
            parts.append("/".join(str(one) for one in value))
    return " ".join(parts)
