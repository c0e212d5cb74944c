"""Tencent Cloud SMS: SendSms 2021-01-11 signed by TC3-HMAC-SHA256, and its delivery reports.

https://cloud.tencent.com/document/api/382/52071 and /55981
"""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from yarl import URL

from kernel.notify.domain import Letter, Report, refused, unavailable
from kernel.notify.http import ask
from kernel.settings import SmsSettings

NAME = "tencent"
ENDPOINT = "https://sms.tencentcloudapi.com"
ACTION, VERSION, SERVICE = "SendSms", "2021-01-11", "sms"
ALGORITHM = "TC3-HMAC-SHA256"
CONTENT_TYPE = "application/json; charset=utf-8"
_AGAIN = ("RequestLimitExceeded", "InternalError", "ResourceUnavailable")


def authorization(
    secret_id: str, secret_key: str, host: str, service: str, action: str, at: int, body: bytes
) -> str:
    """The header for a POST to `/` at a moment (seconds since 1970)."""
    signed = "content-type;host;x-tc-action"
    lines = f"content-type:{CONTENT_TYPE}\nhost:{host}\nx-tc-action:{action.lower()}\n"
    payload = hashlib.sha256(body).hexdigest()
    canonical = "\n".join(("POST", "/", "", lines, signed, payload))
    day = datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d")
    scope = f"{day}/{service}/tc3_request"
    hashed = hashlib.sha256(canonical.encode()).hexdigest()
    to_sign = "\n".join((ALGORITHM, str(at), scope, hashed))
    key = f"TC3{secret_key}".encode()
    for part in (day, service, "tc3_request", to_sign):
        key = hmac.digest(key, part.encode(), hashlib.sha256)
    return (
        f"{ALGORITHM} Credential={secret_id}/{scope}, SignedHeaders={signed}, Signature={key.hex()}"
    )


@dataclass(frozen=True, slots=True)
class TencentSender:
    """Sends by Tencent Cloud; `clock` gives seconds since 1970 for the signature."""

    settings: SmsSettings
    clock: Callable[[], float] = time.time
    name: str = NAME

    async def send(self, letter: Letter) -> str:
        """As `SmsSender.send`; the number is the SerialNo."""
        endpoint = URL(self.settings.endpoint or ENDPOINT)
        asked = {
            "PhoneNumberSet": [f"+86{letter.number}"],
            "SmsSdkAppId": self.settings.app_id,
            "SignName": self.settings.sign_name,
            "TemplateId": self.settings.template_login,
            "TemplateParamSet": list(letter.parameters.values()),
            "SessionContext": letter.reference,
        }
        body, at, host = json.dumps(asked).encode(), int(self.clock()), endpoint.authority
        key_id, secret = self.settings.access_key, self.settings.secret_key
        headers = {
            "Authorization": authorization(key_id, secret, host, SERVICE, ACTION, at, body),
            "Content-Type": CONTENT_TYPE,
            "Host": host,
            "X-TC-Action": ACTION,
            "X-TC-Version": VERSION,
            "X-TC-Timestamp": str(at),
            "X-TC-Region": self.settings.region,
        }
        answer = (await ask(endpoint.origin() / "", headers, body)).get("Response")
        said = answer if isinstance(answer, dict) else {}
        error = said.get("Error")
        statuses = said.get("SendStatusSet") or [{}]
        code = str(error.get("Code", "")) if isinstance(error, dict) else statuses[0].get("Code")
        if code == "Ok" and statuses[0].get("SerialNo"):
            return str(statuses[0]["SerialNo"])
        if str(code).startswith(_AGAIN):
            raise unavailable(str(code))
        raise refused(str(code or "no code"))


def read_reports(body: Any) -> list[Report]:
    """Delivery reports as they are pushed; raises ValueError, KeyError, TypeError."""
    if not isinstance(body, list):
        raise TypeError("a list of reports is expected")
    return [
        Report(
            str(one["sid"]), str(one["mobile"]), one["report_status"] == "SUCCESS",
            str(one.get("errmsg", "")),
        )
        for one in body
    ]  # fmt: skip


ACCEPTED = {"result": 0, "errmsg": "OK"}
