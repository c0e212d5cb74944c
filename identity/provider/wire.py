"""How applications show who they are, and how they are refused (RFC 6749 2.3 and 5.2)."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote_plus

from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncSession

from identity.applications.domain import Application
from identity.applications.service import by_client_id, by_secret
from identity.authorisations.domain import OAuthError
from identity.provider.domain import one_of_each
from kernel.errors import Denied, NotFound

_FORM = "application/x-www-form-urlencoded"
NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}


@dataclass(frozen=True, slots=True)
class Shown:
    """The form of a request between programs, and by what the program says who it is."""

    form: Mapping[str, str]
    client_id: str
    secret: str
    by_header: bool


async def read_shown(request: web.Request) -> Shown:
    """Raises OAuthError `invalid_request`, `invalid_client`."""
    if request.content_type != _FORM:
        raise OAuthError("invalid_request", "A form is needed: {kind}.", kind=_FORM)
    form = one_of_each(await request.post())
    header = request.headers.get("Authorization", "")
    if not header:
        return Shown(form, form.get("client_id", ""), form.get("client_secret", ""), False)
    if "client_secret" in form:
        raise OAuthError("invalid_request", "The secret is there twice.")
    client_id, secret = _basic(header)
    if form.get("client_id", client_id) != client_id:
        raise OAuthError("invalid_request", "client_id is there twice and differs.")
    return Shown(form, client_id, secret, True)


async def client_of(session: AsyncSession, shown: Shown, *, public: bool = True) -> Application:
    """The application that asks, one without a secret where `public` ones may.

    Raises OAuthError `invalid_client`.
    """
    try:
        if shown.secret:
            return await by_secret(session, shown.client_id, shown.secret)
        found = await by_client_id(session, shown.client_id)
    except (Denied, NotFound) as error:
        raise _unknown() from error
    if found.kind != "public" or not public:
        raise _unknown()
    return found


def refusal(error: OAuthError, *, by_header: bool = False) -> web.Response:
    """The answer to a program (RFC 6749 5.2)."""
    status = 401 if error.error == "invalid_client" else 400
    body = {"error": error.error, "error_description": str(error)}
    response = web.json_response(body, status=status, headers=NO_STORE)
    if status == 401 and by_header:
        response.headers["WWW-Authenticate"] = 'Basic realm="yunying"'
    return response


def bearer_refusal(error: str, status: int) -> web.Response:
    """The answer to a bearer token that does not do (RFC 6750 3)."""
    challenge = 'Bearer realm="yunying"' + (f', error="{error}"' if error else "")
    headers = {"WWW-Authenticate": challenge, **NO_STORE}
    return web.json_response({"error": error} if error else {}, status=status, headers=headers)


def _basic(header: str) -> tuple[str, str]:
    kind, _, encoded = header.partition(" ")
    try:
        text = base64.b64decode(encoded.strip(), validate=True).decode()
    except (ValueError, binascii.Error) as error:
        raise _unknown() from error
    client_id, _, secret = text.partition(":")
    if kind.lower() != "basic" or not secret:
        raise _unknown()
    return unquote_plus(client_id), unquote_plus(secret)


def _unknown() -> OAuthError:
    return OAuthError("invalid_client", "The application is not known, or shows a wrong secret.")
