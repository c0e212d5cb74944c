"""An instance decoded to explicit little endian, in a codec worker (PS3.5 A.2)."""

from __future__ import annotations

from collections.abc import AsyncIterator

from archive.retrieve.domain import StoredInstance
from archive.retrieve.service import Reader
from dataset.part10 import file_head, parse_head
from dataset.transcode import can_convert
from dicomweb.media import DICOM, EXPLICIT_VR_LITTLE_ENDIAN, NotAcceptable, Offer
from dicomweb.pixels.frame import CannotDisplay
from dicomweb.pixels.pool import CodecPool
from kernel.errors import Invalid

MAX_BYTES = 256 << 20
SECONDS_PER_BYTE = 1 / (4 << 20)


def convertible(instance: StoredInstance) -> bool:
    """Whether explicit little endian can be offered for what is stored otherwise."""
    stored = instance.transfer_syntax_uid
    return (
        stored != EXPLICIT_VR_LITTLE_ENDIAN
        and instance.byte_length <= MAX_BYTES
        and can_convert(stored, EXPLICIT_VR_LITTLE_ENDIAN)
    )


async def explicit_little_endian(
    reader: Reader, codecs: CodecPool, instance: StoredInstance
) -> AsyncIterator[bytes]:
    """The Part 10 file in explicit little endian.

    Raises:
        NotAcceptable: when the pixel data cannot be decoded; it can be had as stored.
    """
    part10 = await reader.content(instance)
    head = parse_head(part10, final=True)
    if head is None:
        raise Invalid("part10.not_dicom", "The stored file has no head.")
    job = {
        "do": "convert",
        "source": instance.transfer_syntax_uid,
        "target": EXPLICIT_VR_LITTLE_ENDIAN,
        "limit_bytes": 2 * MAX_BYTES,
    }
    extra_s = instance.byte_length * SECONDS_PER_BYTE
    try:
        answer = await codecs.run(job, part10[head.dataset_offset :], extra_s=extra_s)
    except CannotDisplay as error:
        stored = instance.transfer_syntax_uid
        raise NotAcceptable([Offer(DICOM, stored, multipart=True), Offer(DICOM, stored)]) from error
    yield file_head(instance.sop_class_uid, instance.sop_instance_uid, EXPLICIT_VR_LITTLE_ENDIAN)
    yield answer.data
