"""What could not be indexed leaves the journal as well, bytes and reason kept."""

from __future__ import annotations

import os

import pytest
from sqlalchemy import select

from archive.index.tables import pack, pack_copy, quarantine
from archive.settle.quarantine import settle_quarantine
from archive.settle.service import manifest_of
from archive.settle.sweep import sweep
from archive.store.service import JOURNAL
from kernel.scope import Scope
from kernel.settings import ArchiveSettings
from tests.archive.conftest import Archive
from tests.archive.material import make

pytestmark = pytest.mark.backend

_SYSTEM = Scope.system("test")
_PLACE = (
    select(
        pack.c.kind,
        pack_copy.c.store,
        pack_copy.c.key,
        quarantine.c.byte_offset,
        quarantine.c.byte_length,
        quarantine.c.reason,
    )
    .join(pack, pack.c.id == quarantine.c.pack_id)
    .join(pack_copy, pack_copy.c.pack_id == pack.c.id)
    .order_by(quarantine.c.id)
)


async def places(archive: Archive) -> list[tuple[str, str, str, int, int, str]]:
    async with archive.database.session(_SYSTEM) as session:
        return [tuple(row) for row in await session.execute(_PLACE)]


def read(archive: Archive, place: tuple[str, str, str, int, int, str]) -> bytes:
    _, store, key, offset, length, _ = place
    return archive.stores.named(store).read(key, offset, length)


async def test_quarantined_records_move_into_a_pack_with_their_reason(archive: Archive) -> None:
    await archive.store(make(StudyInstanceUID=None), make(2, SeriesInstanceUID=None))
    before = await places(archive)
    kept = [read(archive, place) for place in before]
    damaged: set[int] = set()
    assert await settle_quarantine(archive.database, archive.stores, damaged, quiet_ms=-1) == 2
    after = await places(archive)
    assert [place[0] for place in before] == ["journal"] * 2
    assert [place[0] for place in after] == ["pack"] * 2
    assert [read(archive, place) for place in after] == kept
    manifest = manifest_of(archive.stores, after[0][1], after[0][2])
    assert [entry.kind for entry in manifest.entries] == ["quarantine"] * 2
    assert [entry.reason for entry in manifest.entries] == [place[5] for place in after]
    assert all("(0020,000" in entry.detail for entry in manifest.entries)
    assert not damaged


async def test_young_records_stay_for_a_minute(archive: Archive) -> None:
    await archive.store(make(StudyInstanceUID=None))
    assert await settle_quarantine(archive.database, archive.stores, set()) == 0


async def test_a_segment_of_nothing_but_quarantine_goes(archive: Archive) -> None:
    await archive.store(make(StudyInstanceUID=None))
    await archive.receiver.close()
    await settle_quarantine(archive.database, archive.stores, set(), quiet_ms=-1)
    limits = ArchiveSettings(segment_grace_s=-1.0)
    assert await sweep(archive.database, archive.stores, limits) == 1
    assert not list((archive.settings.data / "journal").glob("*.seg"))


async def test_a_damaged_record_stays_and_is_tried_once(archive: Archive) -> None:
    await archive.store(make(StudyInstanceUID=None), make(2, StudyInstanceUID=None))
    (_, store, key, offset, _, _), _ = await places(archive)
    assert store == JOURNAL
    with (archive.settings.data / "journal" / key).open("r+b") as segment:
        os.pwrite(segment.fileno(), b"\xff\xfe", offset + 400)
    damaged: set[int] = set()
    assert await settle_quarantine(archive.database, archive.stores, damaged, quiet_ms=-1) == 1
    assert len(damaged) == 1
    assert [place[0] for place in await places(archive)] == ["journal", "pack"]
    assert await settle_quarantine(archive.database, archive.stores, damaged, quiet_ms=-1) == 0
