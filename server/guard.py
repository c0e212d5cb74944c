"""The guard of the web until accounts exist: whoever asks from this machine is the local owner."""

from __future__ import annotations

import ipaddress

from aiohttp import web

from kernel.errors import Denied, Invalid
from kernel.scope import Actor, Scope
from kernel.settings import Settings, split_address
from kernel.web.safety import is_loopback

LOCAL_OWNER = 1


class LoopbackGuard:
    """Grants everything of the local owner to loopback, nothing to anybody else."""

    async def authorise(self, request: web.Request, permission: str) -> Scope:
        """The local owner's scope; raises Denied `access.remote` for a request from elsewhere."""
        if not _from_loopback(request):
            raise Denied("access.remote", "Only requests from this machine are answered.")
        return Scope(frozenset({LOCAL_OWNER}), Actor("session", "local"), permission)


def _from_loopback(request: web.Request) -> bool:
    # A request through a reverse proxy comes from this machine, but its sender does not.
    if "X-Forwarded-For" in request.headers or "Forwarded" in request.headers:
        return False
    try:
        return ipaddress.ip_address(request.remote or "").is_loopback
    except ValueError:
        return False


def refuse_open_doors(settings: Settings) -> None:
    """Raise Invalid `serve.beyond_loopback` when an address can be reached from other machines."""
    for name, bind in (("http.bind", settings.http.bind), ("dicom.bind", settings.dicom.bind)):
        split_address(bind)
        if not is_loopback(bind):
            raise Invalid(
                "serve.beyond_loopback",
                "{name} is {value}, which other machines can reach. There are no accounts yet, so"
                " Yunying listens on this machine only: use 127.0.0.1.",
                name=name,
                value=bind,
            )
