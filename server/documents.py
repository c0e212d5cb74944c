"""Documents that are generated from the code: ``python -m server.documents``.

`docs/routes.md` lists every route with its permission, `docs/conformance.md` what DICOM is spoken,
`docs/settings.md` every setting. A test compares the files with what this module says.
"""

from __future__ import annotations

import asyncio
import inspect
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from aiohttp import web
from pydicom.datadict import dictionary_description
from pydicom.uid import UID

from archive.query.conditions import KEYS
from gateway.dimse import status
from gateway.upper_layer.sop_classes import (
    NEWER_STORAGE,
    NEWER_SYNTAXES,
    QUERY_CLASSES,
    QUERY_SYNTAXES,
    VERIFICATION,
    storage_classes,
    transfer_syntaxes,
)
from identity.roles.domain import built_in
from kernel import settings_page
from kernel.settings import Settings
from kernel.web.guard import PERMISSIONS, permission_of
from server.migrations.run import upgrade
from server.web_process import build

DOCS = Path(__file__).parent.parent / "docs"
GENERATED = "Generated from the code by `make docs`; do not edit."


async def documents() -> Mapping[str, str]:
    """Every generated document: file name → text."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(data=Path(folder))
        await upgrade(settings)
        async with AsyncExitStack() as stack:
            app = await build(settings, stack)
            routes = "\n".join(_routes(app)) + "\n"
    conformance = "\n".join(_conformance()) + "\n"
    return {"routes.md": routes, "conformance.md": conformance, "settings.md": settings_page.page()}


def _routes(app: web.Application) -> Iterator[str]:
    yield f"# Routes and permissions\n\n{GENERATED}\n"
    yield (
        "Who asks is known by a session cookie, a bearer token of a client, or a capability. A"
        " permission holds for the organisations below the place where its role was granted.\n"
    )
    rows = []
    for route in app.router.routes():
        if route.method == "HEAD" or route.resource is None:
            continue
        said = (inspect.getdoc(route.handler) or "").split("\n\n")[0].replace("\n", " ")
        permission = permission_of(route.handler) or "none"
        path = route.resource.canonical.replace("|", "&#124;")
        rows.append((f"`{route.method} {path}`", f"`{permission}`", said.replace("|", "&#124;")))
    yield from _table(("route", "permission", "what it does"), sorted(set(rows)))
    yield "\n## Permissions\n"
    yield from _table(
        ("permission", "lets"), [(f"`{name}`", text) for name, text in PERMISSIONS.items()]
    )
    yield "\n## Roles\n"
    yield (
        "`passes on` are permissions that the holder may grant without having them. Roles that"
        " exclude each other cannot be held over the same organisation.\n"
    )
    catalogue = built_in()
    roles = [
        (f"`{role.code}`", role.title, _codes(role.permissions), _codes(role.delegates))
        for role in catalogue.roles.values()
    ]
    yield from _table(("role", "title", "may", "passes on"), roles)
    yield "\n"
    excluded = [(_codes(one.roles), one.reason) for one in catalogue.conflicts]
    yield from _table(("exclude each other", "because"), excluded)


def _codes(names: Iterable[str]) -> str:
    return " ".join(f"`{name}`" for name in sorted(names))


def _conformance() -> Iterator[str]:
    yield f"# DICOM conformance\n\n{GENERATED} References are to DICOM 2024.\n"
    yield "## Network (PS3.8): association acceptor\n"
    yield (
        "Application context 1.2.840.10008.3.1.1.1. The first proposed transfer syntax that is"
        " known is accepted. Role selection (PS3.7 D.3.3.4) is accepted for storage, so that C-GET"
        " works; one operation at a time. The largest PDU is a setting (`dicom.max_pdu_bytes`).\n"
    )
    yield "### Services\n"
    services = [("C-ECHO", _uid(VERIFICATION), "SCP")]
    services += [
        (f"C-{found.verb}", _uid(uid), "SCP") for uid, found in sorted(QUERY_CLASSES.items())
    ]
    yield from _table(("service", "SOP class", "role"), services)
    yield f"\nQueries are encoded in {' or '.join(_uid(uid) for uid in QUERY_SYNTAXES)}.\n"
    yield "### Matching keys (PS3.4 C.2.2.2)\n"
    yield (
        "Single value, universal, wildcard, list of UID and range matching by the kind of the key."
        " Names match in any repertoire, by pinyin and by initials. Other keys are returned where"
        " they are known, and the answer says that they were not matched (FF01H).\n"
    )
    keys = [
        (
            f"({key.tag >> 16:04X},{key.tag & 0xFFFF:04X})",
            dictionary_description(key.tag),
            key.level,
        )
        for key in sorted(KEYS.values(), key=lambda key: key.tag)
    ]
    yield from _table(("tag", "attribute", "level"), keys)
    yield from _dimse_statuses()
    yield "\n## Storage SOP classes\n"
    yield "C-STORE as SCP in every transfer syntax listed; C-MOVE and C-GET send them as SCU.\n"
    yield from _table(("SOP class", "UID"), sorted(_named(uid) for uid in storage_classes()))
    yield "\n## Transfer syntaxes\n"
    yield from _table(
        ("transfer syntax", "UID"), sorted(_named(uid) for uid in transfer_syntaxes())
    )


def _dimse_statuses() -> Iterator[str]:
    yield "\n### Statuses\n"
    named = [
        (f"{code:04X}H", name.replace("_", " ").lower())
        for name, code in vars(status).items()
        if name.isupper() and isinstance(code, int)
    ]
    yield from _table(("status", "meaning"), sorted(set(named)))


def _uid(uid: str) -> str:
    return f"{UID(uid).name} ({uid})"


def _named(uid: str) -> tuple[str, str]:
    name = (NEWER_STORAGE | NEWER_SYNTAXES).get(uid) or UID(uid).name
    return (name if name and name != uid else "(retired, without a name)", uid)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"| {' | '.join('---' for _ in head)} |"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def main() -> int:
    """Write the documents."""
    for name, text in asyncio.run(documents()).items():
        (DOCS / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
