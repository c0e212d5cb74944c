"""WADO-RS over a real archive (PS3.18 10.4)."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.encaps import generate_frames

from dataset.part10 import parse_head
from tests.dicomweb.conftest import Answer, Client
from tests.dicomweb.material import ELE, dataset, file, path, pixels, set_pixels, uid

DICOM = 'multipart/related; type="application/dicom"'
OCTETS = 'multipart/related; type="application/octet-stream"'
JSON = "application/dicom+json"


def matrix_file(shared_data: Path, syntax: str) -> bytes:
    """The CT image of the transfer syntax matrix in one transfer syntax."""
    (found,) = (shared_data / "dicom" / "ts_matrix_ct").glob(f"*_{syntax}.dcm")
    return found.read_bytes()


async def stow(client: Client, *files: bytes) -> str:
    """Store and give the path of the first instance."""
    answer = await client.stow(*files)
    assert answer.status == 200, answer.body
    url: str = answer.json["00081199"]["Value"][0]["00081190"]["Value"][0]
    return url.removeprefix(client.root)


def body_of(content: bytes) -> bytes:
    """The data set of a file."""
    head = parse_head(content, final=True)
    assert head is not None
    return content[head.dataset_offset :]


@pytest.fixture
async def filled(client: Client) -> Client:
    """A study of two series with three instances."""
    files = [dataset(1, 1, 1), dataset(1, 1, 2), dataset(1, 2, 1)]
    await stow(client, *[file(ds) for ds in files])
    return client


@pytest.mark.backend
@pytest.mark.parametrize(("where", "count"), [(path(), 3), (path(1, 1), 2), (path(1, 1, 2), 1)])
@pytest.mark.parametrize("settled", [False, True])
async def test_studies_series_and_instances_come_as_multipart(
    filled: Client, where: str, count: int, settled: bool
) -> None:
    if settled:
        await filled.settle()
    answer = await filled.get(where, DICOM)
    assert answer.status == 200
    parts = answer.parts()
    assert len(parts) == count
    assert int(answer.headers["Content-Length"]) == len(answer.body)
    for headers, content in parts:
        assert headers["content-type"] == f"application/dicom; transfer-syntax={ELE}"
        assert int(headers["content-length"]) == len(content)
        ds = pydicom.dcmread(io.BytesIO(content))
        assert headers["content-location"].endswith(ds.SOPInstanceUID)


async def test_one_instance_comes_alone_when_asked_for(filled: Client) -> None:
    answer = await filled.get(path(1, 1, 1), "application/dicom")
    assert answer.headers["Content-Type"] == f"application/dicom; transfer-syntax={ELE}"
    assert body_of(answer.body) == body_of(file(dataset(1, 1, 1)))
    assert (await filled.get(path(1, 1), "application/dicom")).status == 406


async def test_the_default_of_old_clients_is_multipart(filled: Client) -> None:
    assert len((await filled.get(path(1, 1, 1))).parts()) == 1
    assert len((await filled.get(path(1, 1, 1), "*/*")).parts()) == 1


@pytest.mark.parametrize(
    ("where", "code"),
    [
        (path(9), "study.not_found"),
        (path(1, 9), "series.not_found"),
        (path(1, 1, 9), "instance.not_found"),
        (path(2, 1), "series.not_found"),
    ],
)
async def test_what_is_not_there_is_not_found(filled: Client, where: str, code: str) -> None:
    for resource in (where, f"{where}/metadata"):
        answer = await filled.get(resource)
        assert (answer.status, answer.json["code"]) == (404, code)


async def test_a_malformed_uid_is_a_bad_request(filled: Client) -> None:
    answer = await filled.get("/studies/1.2'--/metadata")
    assert (answer.status, answer.json["code"]) == (400, "uid.invalid")


async def test_what_cannot_be_had_is_refused_with_a_list(filled: Client) -> None:
    answer = await filled.get(path(1, 1, 1), "image/png")
    assert (answer.status, answer.json["code"]) == (406, "media.not_acceptable")
    assert "application/dicom" in answer.json["detail"]


async def test_an_unchanged_instance_is_not_sent_again(filled: Client) -> None:
    for resource in (path(1, 1, 1), f"{path(1, 1, 1)}/metadata", f"{path(1, 1)}/metadata",
                     f"{path(1)}/metadata", f"{path(1, 1, 1)}/frames/1"):  # fmt: skip
        first = await filled.get(resource)
        again = await filled.get(resource, **{"If-None-Match": first.headers["ETag"]})
        assert (again.status, again.body) == (304, b""), resource
        assert again.headers["ETag"] == first.headers["ETag"]


@pytest.mark.parametrize(
    ("where", "numbers"), [(path(), [1, 2, 1]), (path(1, 1), [1, 2]), (path(1, 1, 2), [2])]
)
@pytest.mark.parametrize("settled", [False, True])
async def test_metadata_is_dicom_json_without_bulk_data(
    filled: Client, where: str, numbers: list[int], settled: bool
) -> None:
    if settled:
        await filled.settle()
    answer = await filled.get(f"{where}/metadata", JSON)
    assert answer.headers["Content-Type"] == JSON
    assert [one["00200013"]["Value"][0] for one in answer.json] == numbers
    assert all("BulkDataURI" in one["7FE00010"] for one in answer.json)
    assert answer.json[0]["00100010"]["Value"][0]["Ideographic"] == "杨^秀英"


async def test_a_settled_series_goes_out_as_it_is_compressed(filled: Client) -> None:
    await filled.settle()
    where = f"{path(1, 1)}/metadata"
    packed = await filled.get(where, JSON, **{"Accept-Encoding": "gzip, deflate"})
    plain = await filled.get(where, JSON, **{"Accept-Encoding": "identity"})
    assert packed.headers["Content-Encoding"] == "gzip"
    assert json.loads(gzip.decompress(packed.body)) == plain.json
    assert packed.headers["ETag"] != plain.headers["ETag"]
    assert "Accept-Encoding" in packed.headers["Vary"]
    refused = await filled.get(where, JSON, **{"Accept-Encoding": "gzip;q=0"})
    assert "Content-Encoding" not in refused.headers


async def test_bulk_data_is_found_where_the_metadata_says(filled: Client) -> None:
    (one,) = (await filled.get(f"{path(1, 1, 1)}/metadata", JSON)).json
    uri = one["7FE00010"]["BulkDataURI"].removeprefix("/dicom-web")
    ((headers, content),) = (await filled.get(uri, OCTETS)).parts()
    assert content == pixels(1, 1, 1).tobytes()
    assert headers["content-type"].startswith("application/octet-stream")
    assert (await filled.get(uri, "application/octet-stream")).body == content


async def test_bulk_data_inside_sequences_has_a_path(client: Client) -> None:
    item = pydicom.Dataset()
    item.EncapsulatedDocument = bytes(range(256)) * 20
    ds = dataset(ConceptNameCodeSequence=[pydicom.Dataset(), item])
    where = await stow(client, file(ds))
    answer = await client.get(f"{where}/bulkdata/0040A043/1/00420011", "application/octet-stream")
    assert answer.body == bytes(range(256)) * 20


@pytest.mark.parametrize(
    ("name", "status"),
    [("00091001", 404), ("nonsense", 400), ("7FE00010/", 400), ("..%2f..%2fetc", 400)],
)
async def test_bulk_data_that_is_not_there(filled: Client, name: str, status: int) -> None:
    assert (await filled.get(f"{path(1, 1, 1)}/bulkdata/{name}")).status == status


async def test_native_frames_are_octets(client: Client) -> None:
    stack = np.stack([pixels(number) for number in range(5)])
    ds = dataset(NumberOfFrames=5)
    set_pixels(ds, stack)
    where = await stow(client, file(ds))
    answer = await client.get(f"{where}/frames/3,1", OCTETS)
    assert [content for _, content in answer.parts()] == [stack[2].tobytes(), stack[0].tobytes()]
    assert int(answer.headers["Content-Length"]) == len(answer.body)
    for headers, _ in answer.parts():
        assert headers["content-type"] == f"application/octet-stream; transfer-syntax={ELE}"
    escaped = await client.get(f"{where}/frames/2%2C5", OCTETS)
    assert [content for _, content in escaped.parts()] == [stack[1].tobytes(), stack[4].tobytes()]
    single = await client.get(f"{where}/frames/4", "application/octet-stream")
    assert single.body == stack[3].tobytes()


@pytest.mark.parametrize(
    ("frames", "status", "code"),
    [
        ("2", 404, "frame.not_found"),
        ("1,2", 404, "frame.not_found"),
        ("0", 400, "frames.bad_list"),
        ("-1", 400, "frames.bad_list"),
        ("one", 400, "frames.bad_list"),
        ("1,,2", 400, "frames.bad_list"),
    ],
)
async def test_frames_that_are_not_there(
    filled: Client, frames: str, status: int, code: str
) -> None:
    answer = await filled.get(f"{path(1, 1, 1)}/frames/{frames}")
    assert (answer.status, answer.json["code"]) == (status, code)


@pytest.mark.parametrize(
    ("syntax", "media_type"),
    [
        ("1.2.840.10008.1.2.4.50", "image/jpeg"),
        ("1.2.840.10008.1.2.4.70", "image/jpeg"),
        ("1.2.840.10008.1.2.4.80", "image/jls"),
        ("1.2.840.10008.1.2.4.90", "image/jp2"),
        ("1.2.840.10008.1.2.5", "image/dicom-rle"),
    ],
)
async def test_compressed_frames_come_as_stored_or_decoded(
    shared_data: Path, client: Client, syntax: str, media_type: str
) -> None:
    content = matrix_file(shared_data, syntax)
    where = await stow(client, content)
    ds = pydicom.dcmread(io.BytesIO(content))
    expected = next(generate_frames(ds.PixelData, number_of_frames=1))
    for accept in (
        'multipart/related; type="*/*"',
        "*/*",
        f'multipart/related; type="{media_type}"',
    ):
        ((headers, frame),) = (await client.get(f"{where}/frames/1", accept)).parts()
        assert headers["content-type"] == f"{media_type}; transfer-syntax={syntax}"
        assert frame == expected
    if syntax.endswith(".50"):
        return
    native = pydicom.dcmread(io.BytesIO(matrix_file(shared_data, ELE))).PixelData
    for accept in (OCTETS, f"{OCTETS}; transfer-syntax={ELE}", "application/octet-stream"):
        answer = await client.get(f"{where}/frames/1", accept)
        frame = answer.body if accept.startswith("app") else answer.parts()[0][1]
        assert frame == native


async def test_frames_of_big_endian_are_octets_in_little_endian(
    shared_data: Path, client: Client
) -> None:
    where = await stow(client, matrix_file(shared_data, "1.2.840.10008.1.2.2"))
    ((_, frame),) = (await client.get(f"{where}/frames/1", OCTETS)).parts()
    assert frame == pydicom.dcmread(io.BytesIO(matrix_file(shared_data, ELE))).PixelData


async def test_frames_of_a_deflated_instance_are_octets(shared_data: Path, client: Client) -> None:
    where = await stow(client, matrix_file(shared_data, "1.2.840.10008.1.2.1.99"))
    ((_, frame),) = (await client.get(f"{where}/frames/1", OCTETS)).parts()
    assert frame == pydicom.dcmread(io.BytesIO(matrix_file(shared_data, ELE))).PixelData


@pytest.mark.parametrize(
    "syntax",
    [
        "1.2.840.10008.1.2",
        "1.2.840.10008.1.2.2",
        "1.2.840.10008.1.2.1.99",
        "1.2.840.10008.1.2.4.80",
        "1.2.840.10008.1.2.4.90",
        "1.2.840.10008.1.2.5",
    ],
)
async def test_an_instance_is_decoded_for_a_client_that_names_explicit_little_endian(
    shared_data: Path, client: Client, syntax: str
) -> None:
    where = await stow(client, matrix_file(shared_data, syntax))
    answer = await client.get(where, f"{DICOM}; transfer-syntax={ELE}")
    assert answer.status == 200, answer.body
    ((headers, content),) = answer.parts()
    assert headers["content-type"] == f"application/dicom; transfer-syntax={ELE}"
    ds = pydicom.dcmread(io.BytesIO(content))
    assert ds.file_meta.TransferSyntaxUID == ELE
    native = pydicom.dcmread(io.BytesIO(matrix_file(shared_data, ELE)))
    assert ds.PixelData == native.PixelData
    ((stored, _),) = (await client.get(where, f"{DICOM}; transfer-syntax=*")).parts()
    assert stored["content-type"].endswith(syntax)


async def test_an_instance_that_cannot_be_decoded_can_be_had_as_stored(
    shared_data: Path, client: Client
) -> None:
    content = matrix_file(shared_data, "1.2.840.10008.1.2.4.90")
    where = await stow(client, content[: len(content) // 2] + b"\0" * (len(content) // 2))
    answer = await client.get(where, f"{DICOM}; transfer-syntax={ELE}")
    assert problem(answer) == (406, "media.not_acceptable")
    assert "1.2.840.10008.1.2.4.90" in answer.json["detail"]
    assert (await client.get(where, f"{DICOM}; transfer-syntax=*")).status == 200


async def test_several_acceptable_types_with_weights(shared_data: Path, client: Client) -> None:
    where = await stow(client, matrix_file(shared_data, "1.2.840.10008.1.2.4.80"))
    accept = (
        'multipart/related; type="image/jp2"; transfer-syntax=1.2.840.10008.1.2.4.90, '
        f"{OCTETS}; transfer-syntax={ELE}; q=0.5, "
        'multipart/related; type="image/jls"; transfer-syntax=1.2.840.10008.1.2.4.80; q=0.9'
    )
    ((headers, _),) = (await client.get(f"{where}/frames/1", accept)).parts()
    assert headers["content-type"].startswith("image/jls")


async def test_head_gives_headers_without_a_body(filled: Client) -> None:
    async with filled.session.head(filled.root + path(1, 1, 1)) as response:
        assert response.status == 200
        assert int(response.headers["Content-Length"]) > 0


def problem(answer: Answer) -> Any:
    """Code of a problem document."""
    return answer.status, answer.json["code"]


async def test_an_instance_without_pixels_has_no_frames(client: Client) -> None:
    ds = dataset(PixelData=None, Rows=None, Columns=None)
    where = await stow(client, file(ds))
    assert problem(await client.get(f"{where}/frames/1")) == (406, "pixels.none")
    assert (await client.get(where)).status == 200
    assert uid(1) in where
