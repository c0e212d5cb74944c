"""STOW-RS: what is stored, what is refused, and how the sender hears of it (PS3.18 10.5)."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from typing import Any

import pytest
from yarl import URL

from tests.dicomweb.conftest import Answer, Client, multipart
from tests.dicomweb.material import dataset, file, path, pixels, set_pixels, uid
from tests.waiting import eventually

DICOM = 'multipart/related; type="application/dicom"; transfer-syntax=*'


def failures(answer: Answer) -> list[tuple[str, int, str]]:
    """UID, reason and comment of each failed part."""
    items = answer.json.get("00081198", {}).get("Value", [])
    return [
        (
            (item["00081155"].get("Value") or [""])[0],
            item["00081197"]["Value"][0],
            item["00000902"]["Value"][0],
        )
        for item in items
    ]


def stored(answer: Answer) -> list[str]:
    """UIDs of the stored instances."""
    return [
        item["00081155"]["Value"][0] for item in answer.json.get("00081199", {}).get("Value", [])
    ]


async def test_stored_instances_are_listed_with_their_addresses(client: Client) -> None:
    answer = await client.stow(file(dataset(number=1)), file(dataset(number=2)))
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("application/dicom+json")
    assert stored(answer) == [uid(1, 1, 1), uid(1, 1, 2)]
    assert answer.json["00081190"]["Value"] == [client.root + path(1)]
    assert "00081198" not in answer.json
    url = answer.json["00081199"]["Value"][0]["00081190"]["Value"][0]
    assert url == client.root + path(1, 1, 1)
    assert (await client.get(path(1, 1, 1))).status == 200


async def test_one_bad_part_among_good_ones_fails_alone(client: Client) -> None:
    answer = await client.stow(file(dataset(number=1)), b"no DICOM", file(dataset(number=2)))
    assert answer.status == 202
    assert stored(answer) == [uid(1, 1, 1), uid(1, 1, 2)]
    ((_, reason, comment),) = failures(answer)
    assert reason == 0xC000
    assert comment.startswith("part10.not_dicom: ")


async def test_only_bad_parts_are_a_conflict(client: Client) -> None:
    answer = await client.stow(b"no DICOM", b"")
    assert answer.status == 409
    assert len(failures(answer)) == 2
    assert "00081199" not in answer.json


async def test_an_instance_of_another_study_is_not_stored(client: Client) -> None:
    answer = await client.stow(file(dataset(study=1)), file(dataset(study=2)), study=uid(1))
    assert answer.status == 202
    assert stored(answer) == [uid(1, 1, 1)]
    ((failed, reason, comment),) = failures(answer)
    assert (failed, reason) == (uid(2, 1, 1), 0xA900)
    assert comment.startswith("study.mismatch")
    assert (await client.get(path(2))).status == 404


async def test_an_instance_without_a_study_does_not_match_the_study_of_the_path(
    client: Client,
) -> None:
    answer = await client.stow(file(dataset(StudyInstanceUID=None)), study=uid(1))
    assert answer.status == 409
    assert failures(answer)[0][1] == 0xA900


async def test_the_same_instance_again_is_a_success(client: Client) -> None:
    assert (await client.stow(file(dataset()))).status == 200
    assert (await client.stow(file(dataset()))).status == 200


@pytest.mark.parametrize("study", [None, uid(1)])
async def test_a_large_instance_streams_through(client: Client, study: str | None) -> None:
    ds = dataset()
    set_pixels(ds, pixels(1, side=1200))
    content = file(ds)
    assert len(content) > 2 << 20
    assert (await client.stow(content, file(dataset(number=2)), study=study)).status == 200
    ((_, back),) = (await client.get(path(1, 1, 1), DICOM)).parts()
    assert back[-2_880_000:] == content[-2_880_000:]


async def test_a_large_instance_of_another_study_leaves_nothing(client: Client) -> None:
    ds = dataset(study=2)
    set_pixels(ds, pixels(1, side=1200))
    answer = await client.stow(file(ds), file(dataset()), study=uid(1))
    assert answer.status == 202
    assert [reason for _, reason, _ in failures(answer)] == [0xA900]
    assert (await client.get(path(2))).status == 404


async def test_files_without_preamble_or_meta_are_understood(client: Client) -> None:
    bare = file(dataset(number=1), preamble=False)
    group_length = struct.unpack_from("<I", bare, 8)[0]
    headless = file(dataset(number=2), preamble=False)[12 + group_length :]
    answer = await client.stow(bare, headless)
    assert (answer.status, stored(answer)) == (200, [uid(1, 1, 1), uid(1, 1, 2)])


async def test_a_hundred_thousand_levels_of_nesting_are_refused_in_words(client: Client) -> None:
    ds = dataset(number=9)
    opening = struct.pack("<HH2sHI", 0x0040, 0x0275, b"SQ", 0, 0xFFFFFFFF)
    item = struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    answer = await client.stow(file(ds) + (opening + item) * 100_000, file(dataset(number=1)))
    assert answer.status in (200, 202)
    assert uid(1, 1, 1) in stored(answer)


async def test_a_body_cut_off_inside_a_part_loses_only_that_part(client: Client) -> None:
    body = multipart([file(dataset(number=1)), file(dataset(number=2))], "zz top")
    answer = await client.stow(body=body[:-300])
    assert answer.status == 202
    assert stored(answer) == [uid(1, 1, 1)]
    assert failures(answer)[0][2].startswith("multipart.truncated")


async def test_a_part_of_another_media_type_fails(client: Client) -> None:
    answer = await client.stow(file(dataset()), part_type="image/jpeg")
    assert answer.status == 409
    assert failures(answer)[0][2].startswith("media.unsupported")


async def test_a_part_without_content_type_is_taken_for_dicom(client: Client) -> None:
    body = b"--zz top\r\n\r\n" + file(dataset()) + b"\r\n--zz top--"
    assert (await client.stow(body=body)).status == 200


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"content_type": "application/dicom"}, 415, "media.unsupported"),
        ({"content_type": "text/plain"}, 415, "media.unsupported"),
        (
            {"content_type": 'multipart/related; type="application/dicom+json"; boundary=b'},
            415,
            "media.unsupported",
        ),
        ({"content_type": "multipart/form-data; boundary=b"}, 415, "media.unsupported"),
        (
            {"content_type": 'multipart/related; type="application/dicom"'},
            400,
            "multipart.boundary",
        ),
        ({"content_type": "nonsense"}, 400, "media.malformed"),
        ({"body": b""}, 400, "multipart.malformed"),
        ({"body": b"no multipart at all"}, 400, "multipart.malformed"),
        ({"body": b"--zz top--\r\n"}, 400, "multipart.empty"),
        ({"study": "1.2.'"}, 400, "uid.invalid"),
    ],
)
async def test_a_request_that_makes_no_sense_is_refused(
    client: Client, change: dict[str, Any], status: int, code: str
) -> None:
    answer = await client.stow(**change)
    assert (answer.status, answer.json["code"]) == (status, code)
    assert answer.headers["Content-Type"].startswith("application/problem+json")


async def test_many_parts_are_answered_in_their_order(client: Client) -> None:
    files = [file(dataset(number=number)) for number in range(1, 301)]
    answer = await client.stow(*files)
    assert stored(answer) == [uid(1, 1, number) for number in range(1, 301)]


async def test_storing_needs_the_permission_to_store(client: Client) -> None:
    await client.stow(file(dataset()))
    assert client.guard.asked == ["archive.study.store"]


async def test_what_is_stored_belongs_to_the_owner_of_the_scope(client: Client) -> None:
    client.guard.owners = frozenset({1})
    await client.stow(file(dataset()))
    client.guard.owners = frozenset({7})
    assert (await client.get(path(1, 1, 1))).status == 404
    client.guard.owners = frozenset({7, 8})
    answer = await client.stow(file(dataset(study=2)))
    assert (answer.status, answer.json["code"]) == (403, "store.owner")


async def test_a_client_that_goes_away_loses_only_the_part_it_was_sending(
    client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    address = URL(client.root)
    _, writer = await asyncio.open_connection(address.host, address.port)
    body = multipart([file(dataset(number=1)), file(dataset(number=2))], "zz")
    writer.write(
        b"POST /dicom-web/studies HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 99999999\r\n"
        b'Content-Type: multipart/related; type="application/dicom"; boundary=zz\r\n\r\n'
        + body[:-300]
    )
    await writer.drain()

    async def first_is_there() -> bool:
        return (await client.get(path(1, 1, 1))).status == 200

    await eventually(first_is_there)
    writer.close()
    await writer.wait_closed()
    assert (await client.get(path(1, 1, 2))).status == 404
    assert (await client.stow(file(dataset(number=2)))).status == 200
    printed = capsys.readouterr()
    assert "Traceback" not in printed.out + printed.err


async def test_a_body_in_chunks_is_taken_as_it_comes(client: Client) -> None:
    body = multipart([file(dataset(number=1)), file(dataset(number=2))], "zz")

    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(body), 7):
            yield body[at : at + 7]

    headers = {"Content-Type": 'multipart/related; type="application/dicom"; boundary=zz'}
    async with client.session.post(
        f"{client.root}/studies", data=pieces(), headers=headers
    ) as response:
        assert response.status == 200
