"""The image side of a stored instance: its attributes and where its frames lie, remembered.

What was read once of an instance's head is kept for the next frame: stored bytes never change, and
with every decision about its study an instance has another entity tag.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np

from archive.retrieve.domain import StoredInstance
from archive.retrieve.service import Reader
from dataset.dicom_json import to_json
from dataset.elements import plain
from dataset.frames import frame_table
from dataset.part10 import parse_head
from dataset.syntax import is_deflated
from dicomweb.pixels.frame import (
    BIG_ENDIAN,
    NATIVE_SYNTAXES,
    CannotDisplay,
    FrameSpec,
    PixelKeyword,
)
from kernel.errors import Invalid, NotFound
from kernel.i18n.catalog import marked

SMALL_BYTES = 8 << 20  # read whole: finding the frames of a small file by itself is cheapest
HEAD_BYTES = 16 << 20  # the most that is read of what precedes the first frame
INLINE_BYTES = 1 << 20  # look-up tables are used from the head
REMEMBERED = 512
REMEMBERED_PIECES = 200_000

_PIXEL_KEYWORDS: dict[str, PixelKeyword] = {
    "7FE00010": "PixelData",
    "7FE00008": "FloatPixelData",
    "7FE00009": "DoubleFloatPixelData",
}

Piece = tuple[int, int]
Attributes = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Image:
    """What is known of an instance with pixels.

    `attributes` is the DICOM JSON of what precedes the pixel data; `frames` has the pieces of each
    frame as (offset, length) from the start of the Part 10 file, or of the inflated data set where
    `deflated`.
    """

    instance: StoredInstance
    attributes: Attributes
    frames: list[list[Piece]]
    keyword: PixelKeyword
    deflated: bool

    @property
    def bytes_in_words(self) -> bool:
        """Whether 8-bit samples lie in big endian words (PS3.5 8.1.1, Annex A.3)."""
        return (
            self.transfer_syntax_uid == BIG_ENDIAN
            and self.attributes.get("7FE00010", {}).get("vr") == "OW"
            and first_value(self.attributes, "00280100") == 8
        )

    @property
    def transfer_syntax_uid(self) -> str:
        """The transfer syntax that the instance is stored in."""
        return self.instance.transfer_syntax_uid

    @property
    def native(self) -> bool:
        """Whether the pixel data is not encapsulated."""
        return self.transfer_syntax_uid in NATIVE_SYNTAXES

    def frame_spec(self, number: int) -> FrameSpec:
        """How frame `number` (from 1) is laid out; raises `CannotDisplay` for impossible values."""
        spec = _frame_spec(self)
        if spec.native and spec.bits_allocated == 1:
            spec = FrameSpec(**{**spec.to_json(), "bit_offset": (number - 1) * spec.frame_bits % 8})
        return spec


class Images:
    """Reads images and their frames through the archive; one per process."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._known: OrderedDict[str, Image] = OrderedDict()
        self._pieces = 0

    async def describe(self, instance: StoredInstance) -> Image:
        """The image of an instance.

        Raises:
            CannotDisplay: `pixels.none`, or why its frames cannot be told apart.
        """
        key = instance.etag
        image = self._known.get(key)
        if image is not None:
            self._known.move_to_end(key)
            return image
        image = await self._load(instance)
        if instance.corrected:
            attributes = await self._reader.correct(instance, image.attributes)
            image = replace(image, attributes=attributes)
        self._remember(key, image)
        return image

    async def frame(self, image: Image, number: int) -> bytes:
        """The stored bytes of frame `number`, from 1.

        Raises:
            NotFound: `frame.not_found`.
        """
        if not 1 <= number <= len(image.frames):
            raise NotFound(
                "frame.not_found",
                "There is no frame {number}: the instance has {frames}.",
                number=number,
                frames=len(image.frames),
            )
        pieces = image.frames[number - 1]
        if image.deflated:
            whole = await self._inflated(image.instance)
            return b"".join(whole[offset : offset + length] for offset, length in pieces)
        if image.bytes_in_words:
            return await self._swapped(image, *pieces[0])
        # Pieces of one frame lie close together: one read instead of one per fragment.
        start = pieces[0][0]
        end = pieces[-1][0] + pieces[-1][1]
        data = await self._reader.read(image.instance, start, end - start)
        if len(pieces) == 1:
            return data
        return b"".join(data[offset - start : offset - start + n] for offset, n in pieces)

    async def _swapped(self, image: Image, offset: int, length: int) -> bytes:
        """Bytes out of big endian words; a frame may begin and end within a word."""
        base = image.frames[0][0][0]
        first, last = (offset - base) // 2 * 2, (offset - base + length + 1) // 2 * 2
        words = await self._reader.read(image.instance, base + first, last - first)
        swapped = np.frombuffer(words, dtype=">u2").astype("<u2").tobytes()
        return swapped[offset - base - first :][:length]

    async def _load(self, instance: StoredInstance) -> Image:
        deflated = is_deflated(instance.transfer_syntax_uid)
        if deflated or instance.byte_length <= SMALL_BYTES:
            part10 = await self._reader.read(instance)
            return await asyncio.to_thread(_parse_whole, instance, part10)
        try:
            layout = await self._reader.frame_table(instance)
        except NotFound as error:
            raise _no_pixels() from error
        if not layout.frames or not layout.frames[0]:
            raise _no_pixels()
        first = layout.frames[0][0][0]
        head = await self._reader.read(instance, 0, min(first, HEAD_BYTES))
        attributes, keyword = await asyncio.to_thread(_parse_head, head)
        return Image(instance, attributes, layout.frames, keyword or "PixelData", deflated=False)

    async def _inflated(self, instance: StoredInstance) -> bytes:
        part10 = await self._reader.read(instance)

        def inflate() -> bytes:
            head = _head_of(part10)
            return bytes(
                plain(memoryview(part10)[head.dataset_offset :], instance.transfer_syntax_uid)
            )

        return await asyncio.to_thread(inflate)

    def _remember(self, key: str, image: Image) -> None:
        self._known[key] = image
        self._pieces += len(image.frames)
        while len(self._known) > REMEMBERED or (
            self._pieces > REMEMBERED_PIECES and len(self._known) > 1
        ):
            _, oldest = self._known.popitem(last=False)
            self._pieces -= len(oldest.frames)


def first_value(attributes: Attributes, tag: str, default: Any = None) -> Any:
    """The first value of an attribute in DICOM JSON, or the default."""
    values = attributes.get(tag, {}).get("Value")
    return default if not values or values[0] is None else values[0]


def _head_of(part10: bytes) -> Any:
    head = parse_head(part10, final=True)
    if head is None:
        raise Invalid("part10.not_dicom", "The stored file has no head.")
    return head


def _parse_whole(instance: StoredInstance, part10: bytes) -> Image:
    """Attributes and frames of a file that is in memory."""
    offset = _head_of(part10).dataset_offset
    syntax = instance.transfer_syntax_uid
    body = memoryview(part10)[offset:]
    attributes, keyword = _attributes(body, syntax)
    if keyword is None:
        raise _no_pixels()
    try:
        table = frame_table(body, syntax)
    except Invalid as error:
        # Attributes out of range are the better reason where they are.
        _frame_spec_of(attributes, syntax, keyword).check()
        raise CannotDisplay(
            "pixels.unclear", marked("The frames cannot be told apart: {detail}"), detail=str(error)
        ) from error
    if table is None or not table.frames:
        raise _no_pixels()
    deflated = is_deflated(syntax)
    by = 0 if deflated else offset
    frames = [[(start + by, length) for start, length in frame] for frame in table.frames]
    if not all(frames):
        raise CannotDisplay("pixels.truncated", marked("A frame has no data."))
    return Image(instance, attributes, frames, keyword, deflated)


def _parse_head(part10: bytes) -> tuple[Attributes, PixelKeyword | None]:
    head = _head_of(part10)
    body = memoryview(part10)[head.dataset_offset :]
    return _attributes(body, cast(str, head.transfer_syntax_uid))


def _attributes(body: memoryview, syntax: str) -> tuple[Attributes, PixelKeyword | None]:
    """DICOM JSON without bulk data, and which pixel data element there is."""

    def bulk(path: str, tag: int, vr: str, offset: int, length: int) -> str | None:
        del tag, vr, offset
        return path if path in _PIXEL_KEYWORDS or length > INLINE_BYTES else None

    attributes = to_json(body, syntax, bulk=bulk, inline_limit=0, damage=[])
    keyword = next((k for tag, k in _PIXEL_KEYWORDS.items() if tag in attributes), None)
    return attributes, keyword


def _frame_spec(image: Image) -> FrameSpec:
    return _frame_spec_of(image.attributes, image.transfer_syntax_uid, image.keyword)


def _frame_spec_of(attributes: Attributes, syntax: str, keyword: PixelKeyword) -> FrameSpec:
    """Image Pixel attributes (PS3.3 C.7.6.3); what is missing gets a value that `check` refuses."""

    def number(tag: str, default: int) -> int:
        value = first_value(attributes, tag, default)
        return value if isinstance(value, int) else default

    bits = {"FloatPixelData": 32, "DoubleFloatPixelData": 64}.get(keyword)
    allocated = bits or number("00280100", 0)
    return FrameSpec(
        transfer_syntax_uid=syntax,
        rows=number("00280010", 0),
        columns=number("00280011", 0),
        samples_per_pixel=number("00280002", 1),
        bits_allocated=allocated,
        bits_stored=bits or number("00280101", allocated),
        pixel_representation=number("00280103", 0),
        photometric_interpretation=str(first_value(attributes, "00280004", "MONOCHROME2")),
        planar_configuration=number("00280006", 0),
        keyword=keyword,
    )


def _no_pixels() -> CannotDisplay:
    return CannotDisplay("pixels.none", marked("The instance has no pixel data."))
