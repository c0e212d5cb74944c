"""The OpenID provider, asked by an independent client (authlib) over real sockets."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from authlib.integrations.base_client import OAuthError
from authlib.integrations.requests_client import OAuth2Session
from authlib.oidc.core import CodeIDToken
from authlib.oidc.discovery import OpenIDProviderMetadata, get_well_known_url
from dicomweb_client.api import DICOMwebClient
from joserfc import jwt
from joserfc.jwk import KeySet
from requests.exceptions import HTTPError

from identity.accounts.service import take_step
from identity.applications.service import rotate_secret, set_state
from identity.grants.domain import Subject
from identity.grants.service import NewGrant, grant
from identity.provider.service import LOGOUT_EVENT
from identity.sessions.service import end_sessions, live_sessions
from identity.signing_keys.domain import AHEAD_S, KEPT_S, SigningKey, jwk_set, signing
from identity.signing_keys.service import load_keys, rotate
from kernel.audit.service import recent
from kernel.db.database import Database
from kernel.settings import Settings
from tests.dicomweb.material import dataset, file
from tests.identity.people import PASSWORD, make_account
from tests.identity.places import SYSTEM, Places
from tests.identity.sso import (
    Rp,
    SsoSite,
    begin,
    led_to,
    onward_place,
    serve_rp,
    serve_sso,
    sign_in,
)
from tests.waiting import eventually

pytestmark = pytest.mark.usefixtures("places")


@pytest.fixture
async def site(settings: Settings, database: Database) -> AsyncIterator[SsoSite]:
    async with serve_sso(settings) as served:
        yield served


@pytest.fixture
async def rp() -> AsyncIterator[Rp]:
    async with serve_rp() as served:
        yield served


async def make_person(site: SsoSite, places: Places, login: str = "yang") -> int:
    account = await make_account(
        site.database, login, places.hospital_a1, display_name="杨秀英", phone="0855-8200000"
    )
    async with site.database.session(SYSTEM, write=True) as session:
        new = NewGrant(Subject("account", account.id), "radiologist", places.hospital_a1)
        await grant(session, None, new)
    await site.keeper.look()
    return account.id


def client_of(site: SsoSite, rp: Rp, client_id: str, secret: str | None, **more: Any) -> Any:
    return OAuth2Session(
        client_id,
        secret,
        token_endpoint_auth_method="client_secret_basic" if secret else "none",
        redirect_uri=rp.callback,
        code_challenge_method="S256",
        default_timeout=20,
        **more,
    )


async def fetch(client: Any, site: SsoSite, code: str, verifier: str) -> Any:
    """Tokens for a code, as authlib asks for them."""
    return await asyncio.to_thread(
        client.fetch_token,
        f"{site.base}/sso/token",
        grant_type="authorization_code",
        code=code,
        code_verifier=verifier,
    )


async def post(site: SsoSite, path: str, form: dict[str, str], **headers: str) -> Any:
    async with site.browser() as program:
        return await program._ask("POST", path, form, headers)


@pytest.mark.backend
async def test_authlib_signs_a_person_in_refreshes_and_reads_who_it_is(
    site: SsoSite, rp: Rp, places: Places
) -> None:
    account_id = await make_person(site, places)
    _, secret = await rp.register(site.database, "portal")
    async with site.browser() as browser:
        said = (await browser.get("/.well-known/openid-configuration")).json
        assert get_well_known_url(site.base, external=True).endswith(
            "/.well-known/openid-configuration"
        )
        metadata = OpenIDProviderMetadata({**said, "issuer": said["issuer"]})
        for name in ("authorization_endpoint", "jwks_uri", "scopes_supported"):
            assert metadata[name]
        assert said["issuer"] == site.base
        with client_of(site, rp, "portal", secret) as client:
            scope = "openid profile org roles phone studies.read"
            begun = begin("portal", rp.callback, scope)
            back = await sign_in(browser, "yang", begun)
            assert back["state"] == begun.state and back["iss"] == site.base
            assert back["fixed"] == "1"
            token = await fetch(client, site, back["code"], begun.verifier)
            assert token["token_type"] == "Bearer" and 0 < token["expires_in"] <= 600
            keys = KeySet.import_key_set((await browser.get("/sso/jwks")).json)
            decoded = jwt.decode(token["id_token"], keys, algorithms=["ES256"])
            claims = CodeIDToken(
                decoded.claims,
                decoded.header,
                {
                    "iss": {"essential": True, "value": site.base},
                    "aud": {"essential": True, "value": "portal"},
                    "nonce": {"essential": True, "value": begun.nonce},
                },
                {"nonce": begun.nonce, "client_id": "portal"},
            )
            claims.validate()
            assert claims["sub"] == f"s{account_id}" and claims["name"] == "杨秀英"
            assert claims["preferred_username"] == "yang"
            assert claims["org"] == "/52/5226/522601/H0001"
            assert claims["org_name"] == "institution H0001"
            assert claims["roles"] == [{"role": "radiologist", "org": "/52/5226/522601/H0001"}]
            assert claims["phone_number"] == "0855-8200000"
            assert (claims["acr"], claims["amr"]) == ("pwd", ["pwd"])
            assert abs(claims["auth_time"] - time.time()) < 30 and claims["sid"]

            told = await asyncio.to_thread(client.get, f"{site.base}/sso/userinfo")
            assert told.json()["sub"] == claims["sub"]
            again = await asyncio.to_thread(client.refresh_token, f"{site.base}/sso/token")
            assert again["refresh_token"] != token["refresh_token"]
            renewed = jwt.decode(again["id_token"], keys, algorithms=["ES256"]).claims
            assert renewed["sid"] == claims["sid"] and "nonce" not in renewed
            assert renewed["auth_time"] == claims["auth_time"]
        # The second application asks for no second sign-in.
        await rp.register(site.database, "cockpit")
        second = await browser.page(begin("cockpit", rp.callback).path)
        assert "code" in led_to(second.headers["Location"])


@pytest.mark.backend
async def test_a_replayed_code_is_refused_and_ends_what_it_gave(
    site: SsoSite, rp: Rp, places: Places
) -> None:
    await make_person(site, places)
    _, secret = await rp.register(site.database, "portal")
    async with site.browser() as browser:
        begun = begin("portal", rp.callback)
        code = (await sign_in(browser, "yang", begun))["code"]
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": rp.callback,
        "code_verifier": begun.verifier,
        "client_id": "portal",
        "client_secret": secret,
    }
    first = (await post(site, "/sso/token", form)).json
    bearer = {"Authorization": f"Bearer {first['access_token']}"}
    async with site.browser() as program:
        assert (await program.get("/sso/userinfo", **bearer)).status == 200
        replayed = await post(site, "/sso/token", form)
        assert (replayed.status, replayed.json["error"]) == (400, "invalid_grant")
        assert replayed.headers["Cache-Control"] == "no-store"

        async def gone() -> bool:
            return (await program.get("/sso/userinfo", **bearer)).status == 401

        await eventually(gone, 5)
    refreshed = form | {"grant_type": "refresh_token", "refresh_token": first["refresh_token"]}
    assert (await post(site, "/sso/token", refreshed)).json["error"] == "invalid_grant"


async def test_a_code_fits_only_its_application_address_and_verifier(
    site: SsoSite, rp: Rp, places: Places
) -> None:
    await make_person(site, places)
    _, secret = await rp.register(site.database, "portal")
    _, other = await rp.register(site.database, "other")

    async def try_with(**change: str) -> tuple[int, str]:
        async with site.browser() as browser:
            begun = begin("portal", rp.callback)
            code = (await sign_in(browser, "yang", begun))["code"]
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": rp.callback,
            "code_verifier": begun.verifier,
            "client_id": "portal",
            "client_secret": secret,
        }
        answer = await post(site, "/sso/token", form | change)
        return answer.status, answer.json.get("error", "")

    assert await try_with() == (200, "")
    assert await try_with(code_verifier="x" * 43) == (400, "invalid_grant")
    assert await try_with(redirect_uri=f"{rp.base}/callback") == (400, "invalid_grant")
    assert await try_with(client_id="other", client_secret=other) == (400, "invalid_grant")
    assert await try_with(client_secret="yys_wrong") == (401, "invalid_client")
    assert await try_with(client_secret="") == (401, "invalid_client")
    assert await try_with(code_verifier="") == (400, "invalid_request")
    assert await try_with(grant_type="password") == (400, "unsupported_grant_type")
    assert await try_with(grant_type="") == (400, "invalid_request")
    basic = base64.b64encode(b"portal:wrong").decode()
    answer = await post(site, "/sso/token", {"grant_type": "x"}, Authorization=f"Basic {basic}")
    assert answer.status == 401 and answer.headers["WWW-Authenticate"].startswith("Basic")
    async with site.database.session(SYSTEM) as session:
        lines = [one for one in await recent(session, SYSTEM) if one.action == "identity.sso.token"]
    codes = {one.detail["code"] for one in lines}
    assert {"invalid_grant", "invalid_client", "invalid_request"} <= codes
    assert {one.outcome for one in lines} == {"denied"}


async def test_a_used_refresh_token_ends_its_whole_family(
    site: SsoSite, rp: Rp, places: Places
) -> None:
    await make_person(site, places)
    await rp.register(site.database, "app", kind="public")
    async with site.browser() as browser:
        begun = begin("app", rp.callback)
        code = (await sign_in(browser, "yang", begun))["code"]
    with client_of(site, rp, "app", None) as client:
        token = await fetch(client, site, code, begun.verifier)
        form = {
            "grant_type": "refresh_token",
            "refresh_token": token["refresh_token"],
            "client_id": "app",
        }
        wider = await post(site, "/sso/token", form | {"scope": "openid roles"})
        assert wider.json["error"] == "invalid_scope"
        new = (await post(site, "/sso/token", form | {"scope": "openid"})).json
        assert new["scope"] == "openid"
        stolen = await post(site, "/sso/token", form)
        assert stolen.json["error"] == "invalid_grant"
        form["refresh_token"] = new["refresh_token"]
        assert (await post(site, "/sso/token", form)).json["error"] == "invalid_grant"

        async def gone() -> bool:
            async with site.browser() as program:
                bearer = {"Authorization": f"Bearer {new['access_token']}"}
                return (await program.get("/sso/userinfo", **bearer)).status == 401

        await eventually(gone, 5)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"response_type": None}, "invalid_request"),
        ({"code_challenge": None}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge_method": None}, "invalid_request"),
        ({"scope": "openid everything"}, "invalid_scope"),
        ({"scope": None}, "invalid_scope"),
        ({"prompt": "none login"}, "invalid_request"),
        ({"prompt": "dance"}, "invalid_request"),
        ({"max_age": "soon"}, "invalid_request"),
        ({"request": "x.y.z"}, "request_not_supported"),
        ({"request_uri": "https://x"}, "request_uri_not_supported"),
        ({"response_mode": "fragment"}, "invalid_request"),
        ({"nonce": "a\x00b"}, "invalid_request"),
        ({"prompt": "none"}, "login_required"),
    ],
)
async def test_what_is_wrong_is_told_to_the_application(
    site: SsoSite, rp: Rp, change: dict[str, str], error: str
) -> None:
    await rp.register(site.database, "portal")
    begun = begin("portal", rp.callback, **change)
    async with site.browser() as browser:
        led = await browser.page(begun.path)
    assert led.status == 303 and led.headers["Location"].startswith(rp.callback + "&")
    told = led_to(led.headers["Location"])
    assert (told["error"], told["state"], told["iss"]) == (error, begun.state, site.base)


async def test_nobody_is_led_to_an_address_that_is_not_registered(site: SsoSite, rp: Rp) -> None:
    made, _ = await rp.register(site.database, "portal")
    evil = "https://evil.example/callback"
    async with site.browser() as browser:
        for client_id, target in (
            ("portal", evil),
            ("portal", f"{rp.base}/callback"),
            ("portal", rp.callback + "&more=1"),
            ("nobody", rp.callback),
            ("por\x00tal", rp.callback),
        ):
            shown = await browser.page(begin(client_id, target).path)
            assert shown.status == 400 and "Location" not in shown.headers
            assert "cannot sign you in" in shown.text
        twice = begin("portal", rp.callback).path
        for name, value in (("redirect_uri", evil), ("client_id", "portal")):
            assert (await browser.page(f"{twice}&{name}={value}")).status == 400
        repeated = await browser.page(f"{twice}&nonce=again")
        assert led_to(repeated.headers["Location"])["error"] == "invalid_request"
        async with site.database.session(SYSTEM, write=True) as session:
            await set_state(session, SYSTEM, made.id, "disabled")
        assert (await browser.page(twice)).status == 400


async def test_an_application_of_others_asks_the_person_first(
    site: SsoSite, rp: Rp, places: Places
) -> None:
    await make_person(site, places)
    await rp.register(site.database, "map", first_party=False, name_en="Map of <b>beds</b>")
    begun = begin("map", rp.callback, "openid profile studies.read")
    async with site.browser() as browser:
        assert (await browser.sign_in("yang", PASSWORD)).status == 303
        quiet = await browser.page(begin("map", rp.callback, prompt="none").path)
        assert led_to(quiet.headers["Location"])["error"] == "consent_required"
        shown = await browser.page(begun.path)
        assert "Map of &lt;b&gt;beds&lt;/b&gt;" in shown.text and rp.base in shown.text
        assert "See and download the studies that you may see" in shown.text
        query = begun.path.partition("?")[2]
        forged = await browser.post("/sso/consent", {"query": query, "decision": "allow"})
        assert forged.status == 403 and forged.code == "access.csrf"
        place = {"query": query, "to": "/sso/consent"}
        denied = await browser.fill(begun.path, decision="deny", **place)
        assert led_to(onward_place(denied.text))["error"] == "access_denied"
        allowed = await browser.fill(begun.path, decision="allow", **place)
        told = led_to(onward_place(allowed.text))
        assert told["state"] == begun.state and told["code"]
        # Remembered, but not for more, and not when the application wants it asked again.
        assert "code" in led_to((await browser.page(begun.path)).headers["Location"])
        more = begin("map", rp.callback, "openid profile roles")
        assert (await browser.page(more.path)).status == 200
        asked = begin("map", rp.callback, prompt="consent")
        assert (await browser.page(asked.path)).status == 200
        tampered = query + "&redirect_uri=https%3A%2F%2Fevil.example"
        bad = await browser.fill(asked.path, to="/sso/consent", query=tampered, decision="allow")
        assert bad.status == 400 and "evil" not in bad.headers.get("Location", "")


async def test_an_application_may_want_a_fresh_sign_in(
    site: SsoSite, rp: Rp, places: Places
) -> None:
    await make_person(site, places)
    await rp.register(site.database, "portal")
    async with site.browser() as browser:
        assert (await browser.sign_in("yang", PASSWORD)).status == 303
        for more in ({"prompt": "login"}, {"max_age": "0"}):
            begun = begin("portal", rp.callback, login_hint="yang", **more)
            led = await browser.page(begun.path)
            place = led.headers["Location"]
            assert place.startswith("/login?again=1&next=") and "login_hint" not in place
            shown = await browser.page(place)
            assert 'value="yang"' in shown.text
            made_up = await browser.page(f"{begun.path}&signed_in_since=1")
            assert made_up.headers["Location"].startswith("/login?again=1")
            following = led_to(place)["next"]
            not_yet = await browser.page(following)
            assert not_yet.headers["Location"].startswith("/login?again=1")
            done = await browser.fill(
                place, to="/login", login="yang", password=PASSWORD, next=following
            )
            back = await browser.page(onward_place(done.text))
            assert "code" in led_to(back.headers["Location"])
        old = begin("portal", rp.callback, max_age="3600")
        assert "code" in led_to((await browser.page(old.path)).headers["Location"])


@pytest.mark.backend
async def test_a_bearer_token_sees_what_its_person_sees_narrowed_by_its_scope(
    site: SsoSite, rp: Rp, places: Places
) -> None:
    account_id = await make_person(site, places)
    _, secret = await rp.register(site.database, "viewer")
    async with site.browser() as browser:
        begun = begin("viewer", rp.callback, "openid studies.read")
        code = (await sign_in(browser, "yang", begun))["code"]
        narrow = begin("viewer", rp.callback, "openid profile")
        few = led_to((await browser.page(narrow.path)).headers["Location"])["code"]
        part = b"--b\r\nContent-Type: application/dicom\r\n\r\n" + file(dataset(1)) + b"\r\n--b--"
        kind = 'multipart/related; type="application/dicom"; boundary=b'
        headers = {"Content-Type": kind, "Origin": site.base}
        async with browser.session.post(
            f"{site.base}/dicom-web/studies", data=part, headers=headers
        ) as stored:
            assert stored.status == 200, await stored.text()
    with client_of(site, rp, "viewer", secret) as client:
        await fetch(client, site, code, begun.verifier)
        dicomweb = DICOMwebClient(f"{site.base}/dicom-web", session=client)
        found = await asyncio.to_thread(dicomweb.search_for_studies)
        assert [one["0020000D"]["Value"] for one in found] == [[dataset(1).StudyInstanceUID]]
        read = await asyncio.to_thread(dicomweb.retrieve_study, dataset(1).StudyInstanceUID)
        assert str(read[0].PatientName) == str(dataset(1).PatientName)
        with pytest.raises(HTTPError, match="403"):
            await asyncio.to_thread(dicomweb.store_instances, [read[0]])
        account = await asyncio.to_thread(client.get, f"{site.base}/account")
        assert account.status_code == 403
        async with site.database.session(SYSTEM, write=True) as session:
            await take_step(session, SYSTEM, account_id, "suspend")

        async def gone() -> bool:
            answer = await asyncio.to_thread(client.get, f"{site.base}/dicom-web/studies")
            return bool(answer.status_code == 401)

        await eventually(gone, 5)
    async with site.database.session(SYSTEM, write=True) as session:
        await take_step(session, SYSTEM, account_id, "resume")
    last = client_of(site, rp, "viewer", secret)
    with last, pytest.raises(OAuthError, match="invalid_grant"):  # its session ended
        await fetch(last, site, few, narrow.verifier)


async def test_a_token_without_the_scope_opens_nothing(
    site: SsoSite, rp: Rp, places: Places
) -> None:
    await make_person(site, places)
    _, secret = await rp.register(site.database, "viewer")
    async with site.browser() as browser:
        begun = begin("viewer", rp.callback, "openid profile")
        code = (await sign_in(browser, "yang", begun))["code"]
    with client_of(site, rp, "viewer", secret) as client:
        await fetch(client, site, code, begun.verifier)
        assert (await asyncio.to_thread(client.get, f"{site.base}/sso/userinfo")).status_code == 200
        for path in ("/dicom-web/studies", "/metrics", "/account"):
            answer = await asyncio.to_thread(client.get, site.base + path)
            assert answer.status_code == 403, path


@pytest.mark.backend
@pytest.mark.parametrize("way", ["sign out", "kick"])
async def test_the_end_of_a_session_reaches_every_application_within_five_seconds(
    site: SsoSite, rp: Rp, places: Places, way: str
) -> None:
    account_id = await make_person(site, places)
    _, secret = await rp.register(site.database, "portal")
    rp.failing = 2  # it is told again
    async with site.browser() as browser:
        begun = begin("portal", rp.callback)
        code = (await sign_in(browser, "yang", begun))["code"]
        with client_of(site, rp, "portal", secret) as client:
            token = await fetch(client, site, code, begun.verifier)
            keys = KeySet.import_key_set((await browser.get("/sso/jwks")).json)
            claims = jwt.decode(token["id_token"], keys, algorithms=["ES256"]).claims
            bearer = {"Authorization": f"Bearer {token['access_token']}"}
            async with asyncio.timeout(5):
                if way == "kick":
                    async with site.database.session(SYSTEM, write=True) as session:
                        await end_sessions(session, account_id, "kicked")
                else:
                    await browser.fill("/account", to="/logout")
                told = await rp.told.get()
            heard = jwt.decode(told, keys, algorithms=["ES256"])
            assert heard.header["typ"] == "logout+jwt"
            assert heard.claims["events"] == {LOGOUT_EVENT: {}} and "nonce" not in heard.claims
            assert (heard.claims["sid"], heard.claims["sub"], heard.claims["aud"]) == (
                claims["sid"],
                claims["sub"],
                "portal",
            )

            async def gone() -> bool:
                async with site.browser() as program:
                    return (await program.get("/sso/userinfo", **bearer)).status == 401

            await eventually(gone, 5)
            with pytest.raises(OAuthError, match="invalid_grant"):
                await asyncio.to_thread(client.refresh_token, f"{site.base}/sso/token")


async def test_an_application_signs_a_person_out(site: SsoSite, rp: Rp, places: Places) -> None:
    account_id = await make_person(site, places)
    _, secret = await rp.register(site.database, "portal")
    bye = f"{rp.base}/bye"
    async with site.browser() as browser:
        begun = begin("portal", rp.callback)
        code = (await sign_in(browser, "yang", begun))["code"]
        with client_of(site, rp, "portal", secret) as client:
            hint = (await fetch(client, site, code, begun.verifier))["id_token"]
        # Without a hint, or with one that is not ours: asked first.
        for query in (f"client_id=portal&post_logout_redirect_uri={bye}", "id_token_hint=x.y.z"):
            asked = await browser.page(f"/sso/logout?{query}")
            assert "Sign out everywhere?" in asked.text
            async with site.database.session(SYSTEM) as session:
                assert len(await live_sessions(session, account_id)) == 1
        wrong = await browser.post("/sso/logout", {"csrf": "x"}, Accept="text/html")
        assert wrong.status == 403
        asked_for = f"id_token_hint={hint}&post_logout_redirect_uri={bye}&state=s%201"
        led = await browser.page(f"/sso/logout?{asked_for}")
        assert led.status == 303 and led.headers["Location"] == f"{bye}?state=s+1"
        async with site.database.session(SYSTEM) as session:
            assert await live_sessions(session, account_id) == []
        elsewhere = await browser.page(
            f"/sso/logout?id_token_hint={hint}&post_logout_redirect_uri=https://evil.example"
        )
        assert elsewhere.status == 200 and "You are signed out" in elsewhere.text


async def test_tokens_are_given_back_and_looked_into(site: SsoSite, rp: Rp, places: Places) -> None:
    await make_person(site, places)
    _, secret = await rp.register(site.database, "portal", first_party=False)
    _, other = await rp.register(site.database, "lab", first_party=False)
    _, house = await rp.register(site.database, "gateway")
    async with site.browser() as browser:
        await browser.sign_in("yang", PASSWORD)
        begun = begin("portal", rp.callback)
        query = begun.path.partition("?")[2]
        allowed = await browser.fill(begun.path, to="/sso/consent", query=query, decision="allow")
        code = led_to(onward_place(allowed.text))["code"]
    with client_of(site, rp, "portal", secret) as client:
        token = await fetch(client, site, code, begun.verifier)

        async def look(client_id: str, shown: str, text: str) -> Any:
            form = {"client_id": client_id, "client_secret": shown, "token": text}
            return (await post(site, "/sso/introspect", form)).json

        mine = await look("portal", secret, token["access_token"])
        assert mine["active"] and mine["username"] == "yang" and mine["client_id"] == "portal"
        assert (await look("lab", other, token["access_token"])) == {"active": False}
        assert (await look("gateway", house, token["access_token"]))["active"]
        assert (await look("portal", secret, "yya_nothing")) == {"active": False}
        assert (await look("portal", "wrong", token["access_token"]))["error"] == "invalid_client"
        url = f"{site.base}/sso/revoke"
        foreign = {"client_id": "lab", "client_secret": other, "token": token["refresh_token"]}
        assert (await post(site, "/sso/revoke", foreign)).status == 200
        assert (await look("portal", secret, token["refresh_token"]))["active"]
        await asyncio.to_thread(client.revoke_token, url, token=token["refresh_token"])
        for kind in ("refresh_token", "access_token"):
            assert await look("portal", secret, token[kind]) == {"active": False}


async def test_secrets_are_rotated_with_a_grace(site: SsoSite, rp: Rp) -> None:
    made, secret = await rp.register(site.database, "portal")
    async with site.database.session(SYSTEM, write=True) as session:
        new = await rotate_secret(session, SYSTEM, made.id)
    for shown in (secret, new):
        form = {"client_id": "portal", "client_secret": shown, "token": "x"}
        assert (await post(site, "/sso/introspect", form)).json == {"active": False}
    async with site.database.session(SYSTEM, write=True) as session:
        await rotate_secret(session, SYSTEM, made.id, grace_s=0)
    for shown in (secret, new):
        form = {"client_id": "portal", "client_secret": shown, "token": "x"}
        assert (await post(site, "/sso/introspect", form)).status == 401


def test_a_new_key_is_published_before_it_signs_and_the_old_one_stays() -> None:
    old = SigningKey("old", {"kty": "EC"}, 0.0, 0.0, 1000.0 + AHEAD_S + KEPT_S)
    new = SigningKey("new", {"kty": "EC"}, 1000.0, 1000.0 + AHEAD_S)

    def at(now: float) -> tuple[str, list[str]]:
        chosen = signing([old, new], now)
        assert chosen is not None
        return chosen.id, [one["kid"] for one in jwk_set([old, new], now)["keys"]]

    assert at(1001.0) == ("old", ["old", "new"])
    assert at(1000.0 + AHEAD_S) == ("new", ["old", "new"])
    assert at(1000.0 + AHEAD_S + KEPT_S) == ("new", ["new"])


@pytest.mark.backend
async def test_keys_are_rotated_sealed_and_dropped_at_once_when_compromised(
    site: SsoSite, rp: Rp, places: Places
) -> None:
    await make_person(site, places)
    _, secret = await rp.register(site.database, "portal")

    async def id_token() -> str:
        async with site.browser() as browser:
            begun = begin("portal", rp.callback)
            code = (await sign_in(browser, "yang", begun))["code"]
        with client_of(site, rp, "portal", secret) as client:
            return str((await fetch(client, site, code, begun.verifier))["id_token"])

    async def listed() -> list[str]:
        async with site.browser() as browser:
            return [one["kid"] for one in (await browser.get("/sso/jwks")).json["keys"]]

    await id_token()
    first = await listed()
    async with site.database.session(SYSTEM, write=True) as session:
        new = await rotate(session, site.provider.sealer, SYSTEM)
    assert await listed() == [*first, new.id]
    header = jwt.decode(
        await id_token(),
        KeySet.import_key_set({"keys": [dict(one.public, kid=one.id) for one in await keys(site)]}),
        algorithms=["ES256"],
    ).header
    assert header["kid"] == first[0]
    async with site.database.session(SYSTEM, write=True) as session:
        urgent = await rotate(session, site.provider.sealer, SYSTEM, compromised=True)
    assert await listed() == [urgent.id]
    async with site.database.session(SYSTEM) as session:
        lines = [one for one in await recent(session, SYSTEM) if "key" in one.detail]
    assert [one.detail["change"] for one in lines] == ["compromised", "rotated", "rotated"]


async def keys(site: SsoSite) -> list[SigningKey]:
    async with site.database.session(SYSTEM) as session:
        return await load_keys(session)
