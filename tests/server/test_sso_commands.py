"""`yunying sso`, called inside this process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from click.testing import CliRunner

from identity.applications.service import by_secret
from identity.signing_keys.service import load_keys
from kernel.db.database import Database
from kernel.scope import Scope
from kernel.settings import Settings
from server.cli_sso import sso
from tests.identity.people import make_account

SYSTEM = Scope.system("test")
ARGUMENTS = (
    "register", "portal", "--name-zh", "门户", "--name-en", "Portal",
    "--redirect", "https://portal.example/callback", "--scope", "org",
)  # fmt: skip


@pytest.fixture
def quiet() -> Iterator[None]:
    """Logs go again where they went before the commands sent them elsewhere."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = before
    structlog.reset_defaults()


def run(data: Path, *arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(sso, [*arguments, "--data", str(data)])
    return done.exit_code, done.output


@pytest.mark.usefixtures("quiet")
def test_applications_keys_and_people_are_managed_from_the_command_line(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = settings.data
    code, secret = run(data, *ARGUMENTS)
    assert code == 0 and secret.startswith("yys_")
    assert "[application.exists]" in run(data, *ARGUMENTS)[1]
    bad = [one.replace("https", "ftp") for one in ARGUMENTS]
    assert "[application.redirect_uri]" in run(data, *bad)[1]
    assert "It signs in ten minutes" in run(data, "rotate-keys")[1]
    assert "It signs from now on" in run(data, "rotate-keys", "--compromised")[1]
    assert "No message yet" in run(data, "messages")[1]
    assert "[upstream.none]" in run(data, "link", "yang", "s7")[1]
    asyncio.run(_check(settings, secret.strip()))
    monkeypatch.setenv("YUNYING_SSO_UPSTREAM_ISSUER", "https://a.example/")
    assert "[account.not_found]" in run(data, "link", "nobody", "s7")[1]
    assert "s7 is yang here." in run(data, "link", "yang", "s7")[1]
    assert "[upstream.linked]" in run(data, "link", "yang", "s7")[1]


async def _check(settings: Settings, secret: str) -> None:
    database = await Database.open(settings)
    try:
        async with database.session(SYSTEM) as session:
            found = await by_secret(session, "portal", secret)
            keys = await load_keys(session)
        await make_account(database, "yang")
    finally:
        await database.close()
    assert found.scopes == {"openid", "org"} and not found.first_party
    assert len(keys) == 1 and found.redirect_uris == ("https://portal.example/callback",)
