"""Aliyun SMS: SendSms 2017-05-25 signed by ACS3-HMAC-SHA256, and its delivery reports.

https://help.aliyun.com/zh/sdk/product-overview/v3-request-structure-and-signature
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from yarl import URL

from kernel.notify.domain import Letter, Report, refused, unavailable
from kernel.notify.http import ask
from kernel.settings import SmsSettings

NAME = "aliyun"
ENDPOINT = "https://dysmsapi.aliyuncs.com"
ACTION, VERSION = "SendSms", "2017-05-25"
ALGORITHM = "ACS3-HMAC-SHA256"
# What is worth asking again; everything else is refused for good.
_AGAIN = ("Throttling", "ServiceUnavailable", "InternalError", "isp.SYSTEM_ERROR")


def canonical_query(parameters: Mapping[str, str]) -> str:
    """Parameters by name, percent-encoded as RFC 3986 has it."""
    return "&".join(
        f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}"
        for name, value in sorted(parameters.items())
    )


def authorization(
    key_id: str, secret: str, query: str, headers: Mapping[str, str], method: str = "POST"
) -> str:
    """The header for a request to `/` whose other headers (small letters) all are signed."""
    names = sorted(headers)
    signed = ";".join(names)
    lines = "".join(f"{name}:{headers[name].strip()}\n" for name in names)
    canonical = "\n".join((method, "/", query, lines, signed, headers["x-acs-content-sha256"]))
    to_sign = f"{ALGORITHM}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    signature = hmac.digest(secret.encode(), to_sign.encode(), hashlib.sha256).hex()
    return f"{ALGORITHM} Credential={key_id},SignedHeaders={signed},Signature={signature}"


@dataclass(frozen=True, slots=True)
class AliyunSender:
    """Sends by Aliyun; `clock` gives the moment for the signature."""

    settings: SmsSettings
    clock: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))
    name: str = NAME

    async def send(self, letter: Letter) -> str:
        """As `SmsSender.send`; the number is the BizId."""
        endpoint = URL(self.settings.endpoint or ENDPOINT)
        query = canonical_query(
            {
                "PhoneNumbers": letter.number,
                "SignName": self.settings.sign_name,
                "TemplateCode": self.settings.template_login,
                "TemplateParam": json.dumps(dict(letter.parameters), ensure_ascii=False),
                "OutId": letter.reference,
            }
        )
        headers = {
            "host": endpoint.authority,
            "x-acs-action": ACTION,
            "x-acs-version": VERSION,
            "x-acs-date": self.clock().strftime("%Y-%m-%dT%H:%M:%SZ"),
            "x-acs-signature-nonce": secrets.token_hex(16),
            "x-acs-content-sha256": hashlib.sha256(b"").hexdigest(),
        }
        key_id, secret = self.settings.access_key, self.settings.secret_key
        headers["Authorization"] = authorization(key_id, secret, query, headers)
        place = URL(f"{endpoint.origin()}/?{query}", encoded=True)
        said = await ask(place, headers, b"")
        code = str(said.get("Code", ""))
        if code == "OK" and said.get("BizId"):
            return str(said["BizId"])
        if code.startswith(_AGAIN):
            raise unavailable(code)
        raise refused(code or "no code")


def read_reports(body: Any) -> list[Report]:
    """Delivery reports as they are pushed (SmsReport); raises ValueError, KeyError, TypeError."""
    if not isinstance(body, list):
        raise TypeError("a list of reports is expected")
    return [
        Report(
            str(one["biz_id"]), str(one["phone_number"]), one["success"] is True,
            str(one.get("err_code", "")),
        )
        for one in body
    ]  # fmt: skip


ACCEPTED = {"code": 0, "msg": "成功"}
