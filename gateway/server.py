"""The DICOM server: listens, and gives every connection its upper layer and its session."""

from __future__ import annotations

import asyncio

import structlog

from archive.query.service import Catalog
from archive.receive.service import Receiver
from archive.retrieve.service import Reader
from gateway.ae.domain import check_title
from gateway.ae.service import AeDirectory, Directory, Reach, only_itself
from gateway.audit import Trail
from gateway.find.service import Finder
from gateway.get.service import get
from gateway.move.service import move
from gateway.retrieval.convert import Converter
from gateway.retrieval.service import Retrieval
from gateway.session import Operation, Services, Session
from gateway.upper_layer.association import Association
from gateway.upper_layer.negotiation import Policy
from gateway.upper_layer.network import Network
from gateway.upper_layer.service_user import Limits
from gateway.upper_layer.sop_classes import Verb
from kernel.audit.trail import AuditTrail
from kernel.db.database import Database
from kernel.settings import DicomSettings, Settings, split_address

_log: structlog.stdlib.BoundLogger = structlog.get_logger()

BACKLOG = 512
BARE_CONNECTIONS = 256
CLOSING_S = 5.0


class Server:
    """A listening DICOM server. ``port`` is the real one where 0 was asked for."""

    def __init__(
        self, services: Services, network: Network, limits: Limits, converter: Converter
    ) -> None:
        self.services = services
        self.network = network
        self._limits = limits
        self._converter = converter
        self._listener: asyncio.Server | None = None
        self.port = 0
        self.own_trail: AuditTrail | None = None

    async def listen(self, host: str, port: int, *, reuse_port: bool = False) -> None:
        """Begin to accept connections; ``reuse_port`` lets several processes share the port."""
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(
            lambda: Association(self.network, self._limits, self._session),
            host,
            port,
            backlog=BACKLOG,
            reuse_address=True,
            reuse_port=reuse_port or None,
        )
        self.port = self._listener.sockets[0].getsockname()[1]
        _log.info("dicom_listening", host=host, port=self.port)

    async def close(self) -> None:
        """Take no new connection, let operations end within some seconds, abort the others."""
        if self._listener is not None:
            self._listener.close()
        deadline = asyncio.get_running_loop().time() + CLOSING_S
        for session in [*self.services.bare, *self.services.sessions]:
            if not session.busy():
                session.abort("the server is closing")
        while self.services.sessions and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.02)
            for session in list(self.services.sessions):
                if not session.busy():
                    session.abort("the server is closing")
        for session in list(self.services.sessions):
            session.abort("the server is closing")
        await self.network.close()
        await self._converter.close()
        if self.own_trail is not None:
            await asyncio.to_thread(self.own_trail.close)

    def _session(self, association: Association) -> Session:
        """A service user for a new connection; too many bare ones push out the oldest."""
        services = self.services
        session = Session(services, association)
        services.bare[session] = None
        if len(services.bare) > BARE_CONNECTIONS:
            oldest = next(iter(services.bare))
            del services.bare[oldest]
            oldest.close()
        return session


def assemble(
    dicom: DicomSettings,
    directory: Directory,
    receiver: Receiver,
    reader: Reader,
    catalog: Catalog,
    trail: Trail,
    reach: Reach = only_itself,
) -> Server:
    """A server that does not listen yet. Raises ``Invalid`` for a setting that cannot be."""
    policy = Policy.of(
        check_title(dicom.ae_title),
        dicom.max_pdu_bytes,
        dicom.private_sop_classes,
        dicom.private_transfer_syntaxes,
    )
    limits = Limits(dicom.max_pdu_bytes, dicom.artim_timeout_s, dicom.idle_timeout_s)
    network = Network()
    finder = Finder(catalog, policy.ae_title)
    retrieval = Retrieval(
        reader, directory, Converter(), network, limits, policy.ae_title, dicom.answer_timeout_s
    )
    operations: dict[Verb, Operation] = {
        "FIND": finder.find,
        "MOVE": lambda exchange: move(exchange, retrieval),
        "GET": lambda exchange: get(exchange, retrieval),
    }
    services = Services(
        policy,
        directory,
        receiver,
        operations,
        trail,
        reach,
        dicom.accept_unknown_calling,
        dicom.max_associations,
    )
    return Server(services, network, limits, retrieval.converter)


async def serve_dicom(
    settings: Settings,
    database: Database,
    receiver: Receiver,
    reader: Reader,
    catalog: Catalog,
    *,
    reach: Reach = only_itself,
    trail: AuditTrail | None = None,
    reuse_port: bool = False,
) -> Server:
    """Listen on ``dicom.bind`` for ``dicom.ae_title`` until ``close``.

    ``reach`` says whose data the nodes of an owner may see. Without a ``trail`` the server keeps
    one of its own. Raises ``Invalid`` for a setting that cannot be and ``OSError`` when the port is
    taken.
    """
    own = None
    if trail is None:
        trail = own = await asyncio.to_thread(AuditTrail.open, settings)
    directory = AeDirectory(database)
    server = assemble(settings.dicom, directory, receiver, reader, catalog, trail, reach)
    server.own_trail = own
    host, port = split_address(settings.dicom.bind)
    try:
        await server.listen(host, port, reuse_port=reuse_port)
    except OSError:
        await server.close()
        raise
    return server
