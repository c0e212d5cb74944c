"""Short messages: the carriers' wire formats, the outbox, retries and delivery reports."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import text

from kernel.db.database import Database
from kernel.db.statement import Statement
from kernel.errors import Invalid, Unavailable
from kernel.jobs.runner import Jobs
from kernel.notify import aliyun, tencent
from kernel.notify.domain import Letter, Message
from kernel.notify.service import SEND_JOB, Cause, Outbox, open_outbox
from kernel.scope import Scope
from kernel.sealing.domain import Sealer
from kernel.settings import SmsSettings
from tests.kernel.carriers import KEY_ID, SECRET, Carrier, serve_carrier
from tests.waiting import eventually

NUMBER, SEALER = "13812341234", Sealer("secret of tests")
CAUSE = Cause("sign_in", "request-1", "10.1.2.3")
SYSTEM = Scope.system("test")


def settings_for(kind: str, carrier: Carrier, **more: Any) -> SmsSettings:
    return replace(
        SmsSettings(
            provider=kind,
            endpoint=carrier.base,
            access_key=KEY_ID,
            secret_key=SECRET,
            app_id="1400006666",
            sign_name="黔东南云影",
            template_login="SMS_1",
        ),
        **more,
    )


def test_aliyun_signature_is_the_one_of_its_documents() -> None:
    # "V3版本请求体&签名机制", the example with fixed parameters (RunInstances).
    image = "win2019_1809_x64_dtc_zh-cn_40G_alibase_20230811.vhd"
    query = aliyun.canonical_query({"ImageId": image, "RegionId": "cn-shanghai"})
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    headers = {
        "host": "ecs.cn-shanghai.aliyuncs.com",
        "x-acs-action": "RunInstances",
        "x-acs-content-sha256": empty,
        "x-acs-date": "2023-10-26T10:22:32Z",
        "x-acs-signature-nonce": "3156853299f313e23d1673dc12e1703d",
        "x-acs-version": "2014-05-26",
    }
    said = aliyun.authorization("YourAccessKeyId", "YourAccessKeySecret", query, headers)
    assert said == (
        "ACS3-HMAC-SHA256 Credential=YourAccessKeyId,SignedHeaders=host;x-acs-action;"
        "x-acs-content-sha256;x-acs-date;x-acs-signature-nonce;x-acs-version,"
        "Signature=06563a9e1b43f5dfe96b81484da74bceab24a1d853912eee15083a6f0f3283c0"
    )
    assert aliyun.canonical_query({"b": "a b*c~d/e", "a": "云"}) == "a=%E4%BA%91&b=a%20b%2Ac~d%2Fe"


def test_tencent_signature_is_the_one_of_its_documents() -> None:
    # "签名方法 v3", the example DescribeInstances: its key is shown with stars.
    body = (
        rb'{"Limit": 1, "Filters": [{"Values": ["\u672a\u547d\u540d"], "Name": "instance-name"}]}'
    )
    said = tencent.authorization(
        "AKID********************************",
        "********************************",
        "cvm.tencentcloudapi.com",
        "cvm",
        "DescribeInstances",
        1551113065,
        body,
    )
    assert said == (
        "TC3-HMAC-SHA256 Credential=AKID********************************"
        "/2019-02-25/cvm/tc3_request, SignedHeaders=content-type;host;x-tc-action,"
        " Signature=10b1a37a7301a02ca19a647ad722d5e43b4b3cff309d421d85b46093f6ab6c4f"
    )


@pytest.mark.parametrize("kind", ["aliyun", "tencent"])
async def test_a_carrier_takes_a_message_and_refuses_a_wrong_signature(kind: str) -> None:
    letter = Letter(NUMBER, "sign_in", {"code": "012345"}, "r")
    async with serve_carrier(kind) as carrier:
        outbox = open_outbox(settings_for(kind, carrier), None, SEALER)  # type: ignore[arg-type]
        assert outbox.sender is not None and outbox.sender.name == kind
        assert await outbox.sender.send(letter) in ("90001^0", "5000:1")
        assert carrier.letters == [
            {"number": NUMBER, "code": "012345", "sign": "黔东南云影", "template": "SMS_1"}
        ]
        wrong = settings_for(kind, carrier, secret_key="wrong")
        sender = open_outbox(wrong, None, SEALER).sender  # type: ignore[arg-type]
        assert sender is not None
        with pytest.raises(Invalid) as refused:
            await sender.send(letter)
        assert refused.value.fields["reason"] == carrier.refused[0]


LIMITS = {
    "aliyun": [("Throttling.User", Unavailable), ("isv.BUSINESS_LIMIT_CONTROL", Invalid)],
    "tencent": [
        ("RequestLimitExceeded", Unavailable),
        ("LimitExceeded.PhoneNumberOneHourLimit", Invalid),
        ("FailedOperation.SignatureIncorrectOrUnapproved", Invalid),
    ],
}


@pytest.mark.parametrize("kind", LIMITS)
async def test_what_may_be_asked_again_is_told_from_what_may_not(kind: str) -> None:
    letter = Letter(NUMBER, "sign_in", {"code": "012345"}, "r")
    async with serve_carrier(kind) as carrier:
        sender = open_outbox(settings_for(kind, carrier), None, SEALER).sender  # type: ignore[arg-type]
        assert sender is not None
        for code, error in LIMITS[kind]:
            carrier.answers = [code]
            with pytest.raises(error) as refused:
                await sender.send(letter)
            assert refused.value.fields["reason"] == code
    with pytest.raises(Unavailable):  # nobody answers
        await sender.send(letter)


def test_a_carrier_without_its_settings_does_not_start() -> None:
    with pytest.raises(Invalid, match=r"sms\.access_key"):
        open_outbox(SmsSettings(provider="tencent"), None, SEALER)  # type: ignore[arg-type]


@contextlib.asynccontextmanager
async def working(database: Database, outbox: Outbox) -> AsyncIterator[None]:
    jobs = Jobs(database, {SEND_JOB: outbox.send}, poll_s=0.05, pause=lambda _: 0.02)
    task = asyncio.create_task(jobs.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def put(outbox: Outbox, lasts_s: float = 300.0) -> None:
    async with outbox.database.session(SYSTEM, write=True) as session:
        await outbox.put(session, NUMBER, "138****1234", {"code": "012345"}, CAUSE, lasts_s)


async def rests(outbox: Outbox) -> Message:
    async def moved() -> Message | None:
        newest = (await outbox.listed(limit=1))[0]
        return newest if newest.state != "queued" else None

    found = await eventually(moved)
    assert found is not None
    return found


@pytest.mark.backend
@pytest.mark.parametrize("kind", ["aliyun", "tencent"])
async def test_a_message_is_tried_again_sent_and_its_delivery_reported(
    database: Database, kind: str
) -> None:
    async with serve_carrier(kind) as carrier:
        outbox = open_outbox(settings_for(kind, carrier), database, SEALER)
        carrier.answers = [LIMITS[kind][0][0]] * 2
        await put(outbox)
        async with working(database, outbox):
            sent = await rests(outbox)
    assert (sent.state, sent.attempts, len(carrier.letters)) == ("sent", 3, 1)
    row = await stored(database)
    assert NUMBER not in row and "012345" not in row and "10.1.2.3" not in row
    report = {
        "aliyun": [
            {
                "phone_number": NUMBER,
                "send_time": "2026-01-01 00:00:00",
                "report_time": "2026-01-01 00:00:03",
                "success": True,
                "err_code": "DELIVERED",
                "err_msg": "用户接收成功",
                "sms_size": "1",
                "biz_id": "90001^0",
                "out_id": "r",
            }
        ],
        "tencent": [
            {
                "user_receive_time": "2026-01-01 00:00:03",
                "nationcode": "86",
                "mobile": NUMBER,
                "report_status": "SUCCESS",
                "errmsg": "DELIVRD",
                "description": "用户短信送达成功",
                "sid": "5000:1",
            }
        ],
    }
    read = {"aliyun": aliyun.read_reports, "tencent": tencent.read_reports}[kind]
    reports = read(report[kind])
    assert await outbox.hear(kind, [replace(reports[0], number="13900000000")]) == 0
    assert await outbox.hear("other", reports) == 0
    assert (await rests(outbox)).state == "sent"
    assert await outbox.hear(kind, reports) == 1
    assert (await rests(outbox)).state == "delivered"
    for broken in ({}, [{}], ["x"]):
        with pytest.raises((ValueError, KeyError, TypeError)):
            read(broken)


async def test_a_message_that_nobody_takes_is_given_up_and_said_so(database: Database) -> None:
    async with serve_carrier("aliyun") as carrier:
        outbox = open_outbox(settings_for("aliyun", carrier), database, SEALER)
        carrier.answers = ["isv.BUSINESS_LIMIT_CONTROL"]
        await put(outbox)
        async with working(database, outbox):
            refused = await rests(outbox)
            assert (refused.state, refused.provider_code) == (
                "failed",
                "isv.BUSINESS_LIMIT_CONTROL",
            )
            carrier.answers = ["Throttling.User"] * 9
            await put(outbox)
            tried = await rests(outbox)
            assert (tried.state, tried.attempts) == ("failed", 5)
            await put(outbox, lasts_s=-1)
            assert (await rests(outbox)).state == "expired"
    assert carrier.letters == []
    dead = Statement(text("SELECT count(*) FROM job WHERE state = 'failed' AND kind = 'sms.send'"))
    assert await database.fetch(dead, {}) == [(2,)]


async def test_without_a_carrier_messages_stay_and_codes_are_shown_in_demonstrations_only(
    database: Database,
) -> None:
    outbox = open_outbox(SmsSettings(), database, SEALER)
    await put(outbox)
    async with working(database, outbox):
        kept = await rests(outbox)
    assert (kept.state, kept.text, kept.number_masked) == ("kept", "", "138****1234")
    shown = open_outbox(SmsSettings(show_texts=True), database, SEALER)
    assert (await shown.listed())[0].text == "012345"


async def stored(database: Database) -> str:
    return str(await database.fetch(Statement(text("SELECT * FROM sms_message")), {}))


def test_what_is_sealed_opens_for_its_purpose_and_secret_only() -> None:
    sealed = SEALER.seal(NUMBER, "a")
    assert SEALER.open(sealed, "a") == NUMBER and SEALER.seal(NUMBER, "a") != sealed
    for sealer, purpose, text_ in ((SEALER, "b", sealed), (Sealer("x"), "a", sealed),
                                   (SEALER, "a", "?"), (SEALER, "a", sealed[:-8])):  # fmt: skip
        with pytest.raises(Unavailable):
            sealer.open(text_, purpose)
    assert SEALER.index(NUMBER, "a") == SEALER.index(NUMBER, "a") != SEALER.index(NUMBER, "b")
