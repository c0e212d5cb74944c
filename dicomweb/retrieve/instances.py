"""Whole instances: which form each one goes out in, and its bytes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from aiohttp import web

from archive.retrieve.domain import StoredInstance
from dicomweb.answers import Part
from dicomweb.media import MediaRange, Offer, choose
from dicomweb.retrieve.domain import instance_offers
from dicomweb.retrieve.transcode import convertible, explicit_little_endian
from dicomweb.services import CODECS, READER


def plan(
    ranges: Sequence[MediaRange], instances: Sequence[StoredInstance], *, single: bool
) -> list[tuple[StoredInstance, Offer]]:
    """The form of each instance; a body without multipart only for one instance asked for as such.

    Raises:
        NotAcceptable: when some instance can be had in no accepted form.
    """
    planned = []
    for instance in instances:
        offers = instance_offers(instance, convertible=convertible(instance))
        if not single:
            offers = [offer for offer in offers if offer.multipart]
        planned.append((instance, choose(ranges, offers)))
    return planned


def instance_part(app: web.Application, instance: StoredInstance, offer: Offer) -> Part:
    """One instance as a part: its Part 10 file, corrected, in the stored transfer syntax or decoded
    to explicit little endian.
    """
    reader = app[READER]
    location = (
        f"/dicom-web/studies/{instance.study_instance_uid}"
        f"/series/{instance.series_instance_uid}/instances/{instance.sop_instance_uid}"
    )
    if offer.stored:
        length = None if instance.corrected else instance.byte_length
        return Part(offer.content_type(), lambda: reader.stream(instance), length, location)

    async def decoded() -> AsyncIterator[bytes]:
        async for chunk in explicit_little_endian(reader, app[CODECS], instance):
            yield chunk

    return Part(offer.content_type(), decoded, None, location)
