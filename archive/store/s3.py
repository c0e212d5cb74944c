"""The object store on S3: multipart upload with Content-MD5 on every part."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from archive.store.domain import StoredObject
from kernel.errors import Invalid, NotFound, Unavailable
from kernel.settings import ObjectSettings

PART_BYTES = 16 * 1024 * 1024
_MISSING = frozenset({"404", "NoSuchKey", "NotFound"})


class S3Store:
    """Objects in one bucket below a prefix."""

    name = "s3"

    def __init__(self, settings: ObjectSettings) -> None:
        bucket, _, prefix = settings.url.removeprefix("s3://").partition("/")
        if not settings.url.startswith("s3://") or not bucket:
            raise Invalid("objects.url", "{url} is not s3://bucket/prefix", url=settings.url)
        self._bucket = bucket
        self._prefix = prefix.strip("/") + "/" if prefix.strip("/") else ""
        self._client: Any = boto3.client(
            "s3",
            endpoint_url=settings.endpoint or None,
            region_name=settings.region,
            aws_access_key_id=settings.access_key or None,
            aws_secret_access_key=settings.secret_key or None,
            config=Config(
                signature_version="s3v4",
                connect_timeout=5,
                read_timeout=60,
                max_pool_connections=32,
                retries={"max_attempts": 4, "mode": "standard"},
                s3={"addressing_style": "path"},
                # Verification is Content-MD5 per part; not every S3 server knows the newer sums.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )

    def create(self, key: str) -> _S3Writer:
        """See `ObjectStore.create`."""
        return _S3Writer(self._client, self._bucket, self._prefix + key)

    def read(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        """See `ObjectStore.read`."""
        if length == 0:
            return b""
        end = "" if length is None else str(start + length - 1)
        wanted: dict[str, str] = (
            {} if not start and length is None else {"Range": f"bytes={start}-{end}"}
        )
        try:
            answer = self._client.get_object(Bucket=self._bucket, Key=self._prefix + key, **wanted)
            data: bytes = answer["Body"].read()
        except (ClientError, BotoCoreError) as error:
            raise _translated(error, key) from error
        if length is not None and len(data) != length:
            raise Unavailable(
                "objects.short",
                "object {key} ends at byte {end}, {wanted} were asked for",
                key=key,
                end=start + len(data),
                wanted=start + length,
            )
        return data

    def size(self, key: str) -> int:
        """See `ObjectStore.size`."""
        try:
            answer = self._client.head_object(Bucket=self._bucket, Key=self._prefix + key)
        except (ClientError, BotoCoreError) as error:
            raise _translated(error, key) from error
        return int(answer["ContentLength"])

    def delete(self, key: str) -> None:
        """See `ObjectStore.delete`."""
        try:
            self._client.delete_object(Bucket=self._bucket, Key=self._prefix + key)
        except (ClientError, BotoCoreError) as error:
            raise _translated(error, key) from error

    def keys(self, prefix: str) -> Iterator[StoredObject]:
        """See `ObjectStore.keys`."""
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=self._prefix + prefix
        )
        try:
            for page in pages:
                for found in page.get("Contents", ()):
                    key = found["Key"].removeprefix(self._prefix)
                    yield StoredObject(key, found["Size"])
        except (ClientError, BotoCoreError) as error:
            raise _translated(error, prefix) from error


class _S3Writer:
    """A small object goes up in one request, a large one in parts of `PART_BYTES`."""

    def __init__(self, client: Any, bucket: str, key: str) -> None:
        self._client = client
        self._where = {"Bucket": bucket, "Key": key}
        self._buffer = bytearray()
        self._parts: list[dict[str, Any]] = []
        self._upload = ""
        self._size = 0

    def write(self, part: bytes | memoryview) -> None:
        self._buffer += part
        self._size += len(part)
        while len(self._buffer) >= PART_BYTES:
            self._send(bytes(self._buffer[:PART_BYTES]))
            del self._buffer[:PART_BYTES]

    def commit(self) -> int:
        try:
            if not self._upload:
                body = bytes(self._buffer)
                self._client.put_object(**self._where, Body=body, ContentMD5=_md5(body))
            else:
                if self._buffer:
                    self._send(bytes(self._buffer))
                self._client.complete_multipart_upload(
                    **self._where, UploadId=self._upload, MultipartUpload={"Parts": self._parts}
                )
            answer = self._client.head_object(**self._where)
        except (ClientError, BotoCoreError) as error:
            raise _translated(error, self._where["Key"]) from error
        if answer["ContentLength"] != self._size:
            raise Unavailable(
                "objects.short",
                "object {key} ends at byte {end}, {wanted} were asked for",
                key=self._where["Key"],
                end=answer["ContentLength"],
                wanted=self._size,
            )
        return self._size

    def abort(self) -> None:
        if not self._upload:
            return
        try:
            self._client.abort_multipart_upload(**self._where, UploadId=self._upload)
        except (ClientError, BotoCoreError):
            return  # the bucket's life cycle ends what is left of it

    def _send(self, body: bytes) -> None:
        try:
            if not self._upload:
                started = self._client.create_multipart_upload(**self._where)
                self._upload = started["UploadId"]
            number = len(self._parts) + 1
            answer = self._client.upload_part(
                **self._where,
                UploadId=self._upload,
                PartNumber=number,
                Body=body,
                ContentMD5=_md5(body),
            )
        except (ClientError, BotoCoreError) as error:
            raise _translated(error, self._where["Key"]) from error
        self._parts.append({"PartNumber": number, "ETag": answer["ETag"]})


def _md5(body: bytes) -> str:
    return base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()


def _translated(error: Exception, key: str) -> NotFound | Unavailable:
    if isinstance(error, ClientError) and error.response["Error"]["Code"] in _MISSING:
        return NotFound("objects.missing", "object {key} is not in its store", key=key)
    return Unavailable("objects.failed", "the object store failed: {why}", why=str(error))
