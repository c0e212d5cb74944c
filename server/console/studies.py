"""What rooms are told that they cannot know: whose a study is, what places, people are called."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

from archive.query.domain import Query
from archive.query.service import Catalog
from dataset.refs import StudyRef
from identity.accounts.service import names_of
from identity.clients.service import client_names
from identity.console.domain import FindStudies, FoundStudy, places
from identity.organisations.service import load_tree
from kernel.audit_pages.pages import Names
from kernel.db.database import Database
from kernel.errors import AppError
from kernel.scope import Scope

_STUDY_UID, _DATE, _DESCRIPTION, _MODALITIES = 0x0020000D, 0x00080020, 0x00081030, 0x00080061
_NAMING = Scope.system("names")
_SCOPE = Scope.system("whose study")
MOST = 10


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


def actor_names(database: Database) -> Names:
    """Gives the names of people and programs in two queries; others have none."""

    async def find(actors: Collection[tuple[str, str]]) -> Mapping[tuple[str, str], str]:
        found: dict[tuple[str, str], str] = {}
        async with database.session(_NAMING) as session:
            for kind, names_for in (("session", names_of), ("client", client_names)):
                ids = {int(one) for of, one in actors if of == kind and one.isdecimal()}
                names = await names_for(session, ids)
                found |= {(kind, str(number)): name for number, name in names.items()}
        return found

    return find


def _words(dataset: dict[str, dict[str, object]]) -> str:
    parts = []
    for tag in (_DATE, _MODALITIES, _DESCRIPTION):
        value = dataset.get(f"{tag:08X}", {}).get("Value", [])
        if isinstance(value, list) and value:
            parts.append("/".join(str(one) for one in value))
    return " ".join(parts)
