"""A small region with tenants, actors and studies, served as in production on free ports.

What each actor must see is said here as plain data and worked out by walking up the tree, without
any code of `identity`: it is the oracle that answers are compared with.
"""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace

import aiohttp
from aiohttp import web
from pydicom.uid import EncapsulatedPDFStorage

from archive.query.service import Catalog
from archive.receive.service import Receiver
from archive.retrieve.service import Reader
from archive.settle.service import Settler
from archive.store.service import open_stores
from gateway.ae.service import add_ae
from gateway.server import Server, serve_dicom
from identity.applications.service import Facts, register
from identity.authorisations.service import Asked, SignedInAs, give_code, take_code
from identity.capabilities.domain import Caveat
from identity.capabilities.service import add_key, issue
from identity.clients.service import NewClient, create_client
from identity.grants.domain import Subject
from identity.grants.service import NewGrant, grant
from identity.guard.keeper import Keeper
from identity.organisations.service import load_tree
from identity.roles.domain import built_in
from identity.sessions.service import begin_session
from kernel.db.database import Database
from kernel.settings import DicomSettings, HttpSettings, Settings
from server.web_process import build
from tests.archive.material import ORIGIN, Made, make, uid
from tests.identity.people import PASSWORD, make_account
from tests.identity.places import SYSTEM, Places, make_places
from tests.identity.site import Client
from tests.servers import free_port

READ, SEARCH = "archive.study.read", "archive.study.search"
NAMED = "archive.identifiers.read"

# Who stands below whom; `local` is the owner that is there before any organisation.
ABOVE: Mapping[str, str | None] = {
    "prefecture": None,
    "county_a": "prefecture",
    "county_b": "prefecture",
    "hospital_a1": "county_a",
    "hospital_a2": "county_a",
    "hospital_b1": "county_b",
    "department": "hospital_a1",
    "local": None,
}


# What the scopes of an application's token open, as docs/sso.md says it.
OPENED: Mapping[str, frozenset[str]] = {
    "openid": frozenset(),
    "studies.read": frozenset(
        {READ, SEARCH, NAMED}
        | {f"archive.sensitive.{kind}" for kind in ("vip", "mental_health", "hiv")}
    ),
    "studies.write": frozenset({"archive.study.store"}),
}


@dataclass(frozen=True, slots=True)
class Study:
    """A study of one owner. Its numbers and names are its owner's alone, its UID may not be."""

    number: int
    owner: str

    @property
    def uid(self) -> str:
        """Study Instance UID."""
        return uid(self.number)

    @property
    def marks(self) -> tuple[str, ...]:
        """What must not be seen by others: Patient ID, name, accession number, description."""
        word = self.owner.replace("_", "").upper()
        return tuple(f"{what}{word}{self.number}" for what in ("PID", "NAME", "ACC", "DESC"))


STUDIES = (
    Study(1, "hospital_a1"),
    Study(2, "hospital_a2"),
    Study(3, "hospital_b1"),
    Study(4, "department"),
    Study(5, "county_a"),
    Study(6, "local"),
    # The same study came from two hospitals.
    Study(7, "hospital_a1"),
    Study(7, "hospital_b1"),
)


@dataclass(frozen=True, slots=True)
class Actor:
    """Who asks. `roles` are (role, place); a capability has `studies` and permissions instead.

    `scopes` are what a person allowed an application that asks in the person's name.
    """

    name: str
    kind: str
    roles: tuple[tuple[str, str], ...] = ()
    home: str | None = None
    studies: frozenset[str] = frozenset()
    permissions: frozenset[str] = frozenset()
    scopes: frozenset[str] = frozenset()

    def owners(self, permission: str) -> frozenset[str]:
        """The owners for whose data the actor has a permission."""
        if permission in self.permissions:
            return frozenset({"hospital_a1"})
        if self.scopes and not any(permission in OPENED[scope] for scope in self.scopes):
            return frozenset()
        return frozenset(
            one
            for one in ABOVE
            for role, place in self.roles
            if permission in built_in().role(role).permissions and place in line(one)
        )

    def sees(self, permission: str) -> frozenset[Study]:
        """The studies of these owners; of a capability those that it names."""
        owners = self.owners(permission)
        return frozenset(
            one
            for one in STUDIES
            if one.owner in owners and (not self.studies or one.uid in self.studies)
        )


def line(place: str | None) -> list[str]:
    """A place and everything above it."""
    return [] if place is None else [place, *line(ABOVE[place])]


ACTORS = (
    Actor("prefecture", "session", (("platform_admin", "prefecture"),), "prefecture"),
    Actor("county_a", "session", (("radiologist", "county_a"),), "county_a"),
    Actor("county_b", "session", (("radiologist", "county_b"),), "county_b"),
    Actor("hospital_a1", "session", (("platform_admin", "hospital_a1"),), "hospital_a1"),
    Actor("department", "session", (("technician", "department"),), "department"),
    Actor("citizen", "session", (("citizen", "prefecture"),)),
    Actor("client_a1", "client", (("technician", "hospital_a1"),), "hospital_a1"),
    Actor(
        "capability",
        "capability",
        studies=frozenset({uid(1)}),
        permissions=frozenset({READ, NAMED}),
    ),
    Actor(
        "app_a1",
        "application",
        (("platform_admin", "hospital_a1"),),
        "hospital_a1",
        scopes=frozenset(OPENED),
    ),
    Actor("anonymous", "anonymous"),
)
# AE title of a node and the organisation it belongs to.
NODES = {"AE_A1": "hospital_a1", "AE_B1": "hospital_b1", "AE_COUNTY": "county_a"}


@dataclass(frozen=True, slots=True)
class Thing:
    """What is administered: what an address calls it, and text that no other one has."""

    id: str
    mark: str


@dataclass(slots=True)
class Region:
    """Everything running."""

    settings: Settings
    database: Database
    places: Places
    app: web.Application
    base: str
    dicom: Server
    owner_ids: Mapping[str, int]
    things: Mapping[str, Mapping[str, Thing]]
    headers: dict[str, dict[str, str]] = field(default_factory=dict)

    def owner_of(self, owner_id: int) -> str:
        """The name of an owner's number."""
        return next(name for name, number in self.owner_ids.items() if number == owner_id)


def instances_of(study: Study) -> list[Made]:
    """An image and a document of a study."""
    patient_id, name, accession, description = study.marks
    facts = {
        "PatientID": patient_id,
        "PatientName": f"{name}^X",
        "AccessionNumber": accession,
        "StudyDescription": description,
    }
    no_pixels = dict.fromkeys(("PixelData", "Rows", "Columns"))
    document = b"%PDF-1.4 " + description.encode().ljust(64)
    return [
        make(study.number, 1, 1, side=8, **facts),
        make(
            study.number,
            2,
            1,
            SOPClassUID=EncapsulatedPDFStorage,
            Modality="DOC",
            EncapsulatedDocument=document,
            **no_pixels,
            **facts,
        ),
    ]


@asynccontextmanager
async def serve_region(settings: Settings, database: Database) -> AsyncIterator[Region]:
    """Build it and serve web and DICOM until the block ends."""
    settings = replace(
        settings,
        http=HttpSettings(bind=f"127.0.0.1:{free_port()}"),
        dicom=DicomSettings(bind="127.0.0.1:0"),
    )
    places = await make_places(database)
    ids = {name: getattr(places, name, 1) for name in ABOVE}
    async with AsyncExitStack() as stack:
        tokens = await _people(database, ids)
        things = await _things(database, ids)
        await _fill(settings, database, ids)
        app = await build(settings, stack)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        host, _, port = settings.http.bind.rpartition(":")
        await web.TCPSite(runner, host, int(port)).start()
        dicom = await _serve_dicom(settings, database, stack)
        base = f"http://{settings.http.bind}"
        region = Region(settings, database, places, app, base, dicom, ids, things)
        await _sign_in(region, tokens)
        yield region


async def _people(database: Database, ids: Mapping[str, int]) -> dict[str, str]:
    """Accounts, a client, a capability, nodes and what they may do; tokens by actor."""
    tokens = {}
    for actor in ACTORS:
        home = ids.get(actor.home or "")
        if actor.kind in ("session", "application"):
            subject = Subject("account", (await make_account(database, actor.name, home)).id)
            if actor.kind == "application":
                tokens[actor.name] = await _token(database, subject.id, actor.scopes)
        elif actor.kind == "client":
            async with database.session(SYSTEM, write=True) as session:
                made, token = await create_client(
                    session, SYSTEM, NewClient(actor.name, None, home)
                )
            subject, tokens[actor.name] = Subject("client", made.id), token
        else:
            continue
        async with database.session(SYSTEM, write=True) as session:
            for role, place in actor.roles:
                await grant(session, None, NewGrant(subject, role, ids[place]))
        if actor.name == "hospital_a1":
            issuer = subject.id
    async with database.session(SYSTEM, write=True) as session:
        await add_key(session)
        for title, place in NODES.items():
            await add_ae(session, title, "127.0.0.1", 104, owner_id=ids[place])
    tokens["capability"] = await _capability(database, issuer, ids["hospital_a1"])
    return tokens


async def _token(database: Database, account_id: int, scopes: frozenset[str]) -> str:
    """An access token of an application in the name of a person, as it gets one for a code."""
    place, verifier = "https://viewer.example/callback", "v" * 43
    facts = Facts("阅片", "Viewer", [place], scopes=scopes, first_party=True)
    async with database.session(SYSTEM, write=True) as session:
        client, _ = await register(session, SYSTEM, "viewer", facts)
        _, begun = await begin_session(session, account_id, "full", 3600.0, peer="", agent="")
        digest = hashlib.sha256(verifier.encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        asked = Asked(client, place, scopes, challenge, "", "https://yunying.example")
        person = SignedInAs(begun.id, account_id, time.time(), ("pwd",), "sid")
        code = await give_code(session, asked, person)
    return (await take_code(database, client, code, place, verifier, 3600.0)).access


async def _things(database: Database, ids: Mapping[str, int]) -> dict[str, dict[str, Thing]]:
    """One thing of each kind that is administered for each organisation."""
    made: dict[str, dict[str, Thing]] = {
        kind: {} for kind in ("organisation", "account", "client", "node")
    }
    async with database.session(SYSTEM) as session:
        tree = await load_tree(session)
    for number, (owner, place) in enumerate(ids.items()):
        title, host = f"N{number}", f"127.0.1.{10 + number}"
        if place in tree.by_id:
            made["organisation"][owner] = Thing(str(place), f"{tree.by_id[place].name}<")
            staff = await make_account(database, f"staff_{owner}", place)
            made["account"][owner] = Thing(str(staff.id), staff.login)
            async with database.session(SYSTEM, write=True) as session:
                await grant(session, None, NewGrant(Subject("account", staff.id), "citizen", place))
                new = NewClient(f"program_{owner}", organisation_id=place)
                program, _ = await create_client(session, SYSTEM, new)
            made["client"][owner] = Thing(str(program.id), program.name)
        async with database.session(SYSTEM, write=True) as session:
            await add_ae(session, title, host, 1, owner_id=place)
        made["node"][owner] = Thing(title, host)
    return made


async def _capability(database: Database, issuer: int, owner_id: int) -> str:
    keeper = await Keeper.open(database)
    known = await keeper.current()
    await keeper.close()
    (actor,) = [one for one in ACTORS if one.kind == "capability"]
    caveat = Caveat(actor.studies, actor.permissions, time.time() + 600, "share")
    async with database.session(SYSTEM, write=True) as session:
        return await issue(session, known.access, known.keys, issuer, owner_id, caveat)


async def _fill(settings: Settings, database: Database, ids: Mapping[str, int]) -> None:
    receiver = await Receiver.open(settings, database)
    for study in STUDIES:
        origin = replace(ORIGIN, owner_id=ids[study.owner])
        for one in instances_of(study):
            await receiver.append(origin, one.identity, [one.data])
    await receiver.close()
    settler = Settler(settings, database, open_stores(settings))
    while await settler.settle_due(everything=True):
        pass


async def _serve_dicom(settings: Settings, database: Database, stack: AsyncExitStack) -> Server:
    receiver = await Receiver.open(settings, database)
    stack.push_async_callback(receiver.close)
    reader = await Reader.open(settings, database)
    keeper = await Keeper.open(database)
    stack.push_async_callback(keeper.close)
    catalog = Catalog(database)
    server = await serve_dicom(settings, database, receiver, reader, catalog, reach=keeper.reach)
    stack.push_async_callback(server.close)
    return server


async def _sign_in(region: Region, tokens: Mapping[str, str]) -> None:
    """The headers by which each actor is known."""
    for actor in ACTORS:
        if actor.name in tokens:
            region.headers[actor.name] = {"Authorization": f"Bearer {tokens[actor.name]}"}
            continue
        region.headers[actor.name] = {"Origin": region.base}
        if actor.kind == "session":
            jar = aiohttp.CookieJar(unsafe=True)
            async with aiohttp.ClientSession(cookie_jar=jar) as session:
                await Client(region.base, session).sign_in(actor.name, PASSWORD)
                cookies = "; ".join(f"{one.key}={one.value}" for one in jar)
            region.headers[actor.name]["Cookie"] = cookies
