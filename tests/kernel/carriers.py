"""Carriers of short messages as their documents describe them, for tests.

Each works out the signature of a request by itself and refuses a wrong one.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from aiohttp import web

from tests.servers import free_port

KEY_ID, SECRET = "AKIDEXAMPLE", "a-secret-of-tests"


@dataclass(slots=True)
class Carrier:
    """What was handed over, and what is to be answered instead of success, one after the other."""

    base: str
    letters: list[dict[str, Any]] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


def aliyun_signature(request: web.Request, secret: str) -> str:
    """Signature V3 as the page on it describes, from the request alone."""
    signed = request.headers["Authorization"].partition("SignedHeaders=")[2].partition(",")[0]
    pairs = sorted(request.query.items())
    query = "&".join(f"{quote(k, safe='~')}={quote(v, safe='~')}" for k, v in pairs)
    canonical = request.method + "\n/\n" + query + "\n"
    for name in signed.split(";"):
        canonical += f"{name}:{request.headers[name].strip()}\n"
    canonical += f"\n{signed}\n{request.headers['x-acs-content-sha256']}"
    text = "ACS3-HMAC-SHA256\n" + hashlib.sha256(canonical.encode()).hexdigest()
    return hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()


def tencent_signature(request: web.Request, body: bytes, secret: str) -> str:
    """TC3-HMAC-SHA256 as the page on it describes, from the request alone."""
    head = request.headers
    signed = head["Authorization"].partition("SignedHeaders=")[2].partition(",")[0]
    canonical = "POST\n/\n\n"
    for name in signed.split(";"):
        canonical += f"{name}:{head[name].strip().lower()}\n"
    canonical += f"\n{signed}\n{hashlib.sha256(body).hexdigest()}"
    at = int(head["X-TC-Timestamp"])
    day = datetime.fromtimestamp(at, UTC).date().isoformat()
    hashed = hashlib.sha256(canonical.encode()).hexdigest()
    text = f"TC3-HMAC-SHA256\n{at}\n{day}/sms/tc3_request\n{hashed}"

    def step(key: bytes, message: str) -> bytes:
        return hmac.new(key, message.encode(), hashlib.sha256).digest()

    key = step(step(step(b"TC3" + secret.encode(), day), "sms"), "tc3_request")
    return step(key, text).hex()


def _signature_of(request: web.Request) -> str:
    return request.headers["Authorization"].rpartition("Signature=")[2]


@asynccontextmanager
async def serve_carrier(kind: str) -> AsyncIterator[Carrier]:
    """`aliyun` or `tencent`."""
    carrier = Carrier(f"http://127.0.0.1:{free_port()}")

    async def aliyun(request: web.Request) -> web.Response:
        assert request.headers["x-acs-action"] == "SendSms"
        assert request.headers["x-acs-version"] == "2017-05-25"
        if not hmac.compare_digest(aliyun_signature(request, SECRET), _signature_of(request)):
            carrier.refused.append("SignatureDoesNotMatch")
            return web.json_response({"Code": "SignatureDoesNotMatch", "Message": "no"}, status=400)
        if carrier.answers:
            code = carrier.answers.pop(0)
            return web.json_response({"Code": code, "Message": "no", "RequestId": "r"})
        carrier.letters.append(
            {
                "number": request.query["PhoneNumbers"],
                "code": json.loads(request.query["TemplateParam"])["code"],
                "sign": request.query["SignName"],
                "template": request.query["TemplateCode"],
            }
        )
        biz_id = f"9000{len(carrier.letters)}^0"
        return web.json_response({"Code": "OK", "Message": "OK", "BizId": biz_id, "RequestId": "r"})

    async def tencent(request: web.Request) -> web.Response:
        body = await request.read()
        assert request.headers["X-TC-Action"] == "SendSms"
        assert request.headers["X-TC-Version"] == "2021-01-11"

        def error(code: str) -> web.Response:
            said = {"Error": {"Code": code, "Message": "no"}, "RequestId": "r"}
            return web.json_response({"Response": said})

        good = tencent_signature(request, body, SECRET)
        if not hmac.compare_digest(good, _signature_of(request)):
            carrier.refused.append("AuthFailure.SignatureFailure")
            return error("AuthFailure.SignatureFailure")
        asked = json.loads(body)
        status = {"SerialNo": "", "PhoneNumber": asked["PhoneNumberSet"][0], "Fee": 0}
        if carrier.answers:
            code = carrier.answers.pop(0)
            if not code.startswith("LimitExceeded"):
                return error(code)
            # What concerns one number stands in its status, and the request as such is fine.
            statuses = [status | {"Code": code, "Message": "no"}]
            return web.json_response({"Response": {"SendStatusSet": statuses, "RequestId": "r"}})
        carrier.letters.append(
            {
                "number": asked["PhoneNumberSet"][0].removeprefix("+86"),
                "code": asked["TemplateParamSet"][0],
                "sign": asked["SignName"],
                "template": asked["TemplateId"],
            }
        )
        serial = f"5000:{len(carrier.letters)}"
        statuses = [
            status | {"SerialNo": serial, "Fee": 1, "Code": "Ok", "Message": "send success"}
        ]
        return web.json_response({"Response": {"SendStatusSet": statuses, "RequestId": "r"}})

    app = web.Application()
    app.router.add_post("/", {"aliyun": aliyun, "tencent": tencent}[kind])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", int(carrier.base.rpartition(":")[2])).start()
    try:
        yield carrier
    finally:
        await runner.cleanup()
