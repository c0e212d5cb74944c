"""`yunying user` and `yunying token`, as a person types them."""

from __future__ import annotations

import re
from pathlib import Path

from identity.accounts.passwords import Hashing
from identity.clients.service import load_clients
from identity.sign_in.service import SignIn, Visitor
from identity.tokens.domain import fingerprint
from kernel.db.database import Database
from kernel.scope import Scope
from kernel.settings import AccessSettings, Settings
from tests.server.running import fails, yunying


async def test_a_user_is_made_and_gets_a_token(tmp_path: Path) -> None:
    data = ("--data", str(tmp_path / "data"))
    said = yunying("user", "create", "yang", "--role", "clinician", "--at", "LOCAL", *data)
    admin = re.search(r"admin was made too, with the password (\S+)", said)
    password = re.search(r"yang can sign in with the password (\S+)", said)
    assert admin and password
    token = yunying("token", "create", "--user", "yang", *data).strip()
    assert token.startswith("yyt_") and "\n" not in token
    reset = yunying("user", "reset", "yang", *data)
    assert "yang can sign in" in reset
    again = fails("user", "create", "yang", *data)
    assert "[account.exists]" in again and "was made too" not in again
    assert "[organisation.not_found]" in fails("user", "create", "long", "--at", "H9999", *data)
    assert "[role.unknown]" in fails("user", "create", "long", "--role", "king", *data)
    assert "[account.not_found]" in fails("token", "create", "--user", "long", *data)

    database = await Database.open(Settings(data=tmp_path / "data"))
    try:
        async with database.session(Scope.system("test")) as session:
            client = (await load_clients(session))[fingerprint(token)]
        sign_in = SignIn(database, AccessSettings(), Hashing())
        fresh = re.search(r"password (\S+)", reset)
        assert fresh is not None
        begun = await sign_in.with_password("yang", fresh[1], Visitor("127.0.0.1", ""))
    finally:
        await database.close()
    assert client.account_id == begun.session.account_id and begun.session.stage == "password"
