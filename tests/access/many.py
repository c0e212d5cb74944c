"""A prefecture's index for the planner: thousands of owners, many studies."""

from __future__ import annotations

from sqlalchemy import text

from kernel.db.database import Database
from tests.identity.places import SYSTEM

INSTITUTIONS = 230
DEPARTMENTS = 16  # of each institution
CLINIC = 2 + INSTITUTIONS  # the owner with few studies
CLINIC_STUDIES = 50
OWNERS = 1 + INSTITUTIONS + 1 + INSTITUTIONS * DEPARTMENTS


def _fill(studies: int) -> tuple[str, ...]:
    """Institution n owns its share of the studies, the clinic the last 50; departments nothing."""
    owner = (
        f"CASE WHEN n > {studies - CLINIC_STUDIES} THEN {CLINIC} ELSE 2 + n % {INSTITUTIONS} END"
    )
    years = studies // 20_000
    day = f"CAST({2025 - years}0101 + n % {years} * 10000 + n / 7 % 12 * 100 + n / 3 % 28 AS TEXT)"
    many = _numbers(studies)
    return (
        "INSERT INTO uid_code (id, uid)"
        " VALUES (1, '1.2.840.10008.5.1.4.1.1.2'), (2, '1.2.840.10008.1.2.1')",
        "INSERT INTO pack (id, kind, state, bytes) VALUES (1, 'pack', 'live', 1)",
        f"INSERT INTO person_name (id, display, folded, hanzi, pinyin, initials) {many}"
        " SELECT n, 'N' || n, 'n' || n, '', 'n' || n, 'n' FROM many WHERE n <= 20000",
        f"INSERT INTO patient (id, owner_id, patient_id, name_id, attrs) {many}"
        f" SELECT n, {owner}, 'P' || n, 1 + n % 20000, '{{}}' FROM many",
        f"INSERT INTO study (id, owner_id, patient_fk, study_instance_uid, name_id,"
        f" referring_name_id, study_date, accession_number, attrs) {many}"
        f" SELECT n, {owner}, n, '1.2.' || n, 1 + n % 20000, 1, {day}, 'A' || n, '{{}}' FROM many",
        f"INSERT INTO series (id, owner_id, study_fk, series_instance_uid, modality,"
        f" series_number, attrs, instances) {many}"
        f" SELECT n, {owner}, n, '1.3.' || n, 'CT', 1, '{{}}', 1 FROM many",
        f"INSERT INTO instance (id, owner_id, series_fk, sop_instance_uid, sop_class_id,"
        f" transfer_syntax_id, frames, pack_id, byte_offset, byte_length, batch_id) {many}"
        f" SELECT n, {owner}, n, '1.4.' || n, 1, 2, 1, 1, n, 1, 1 FROM many",
    )


def _numbers(last: int) -> str:
    """1 to `last` as the table many (n)."""
    return (
        f"WITH RECURSIVE many (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM many WHERE n < {last})"
    )


def all_owners() -> frozenset[int]:
    """The prefecture's scope."""
    return frozenset(range(2, OWNERS + 1))


async def fill(database: Database, studies: int) -> None:
    """Make the rows and let the planner count them."""
    async with database.session(SYSTEM, write=True) as session:
        owners = (
            f"INSERT INTO owner (id, path, state) {_numbers(OWNERS)}"
            f" SELECT n, '/52/' || n, 'active' FROM many WHERE n > 1"
        )
        for statement in (owners, *_fill(studies)):
            await session.execute(text(statement.replace(":", "\\:")))
    tables = ("owner", "person_name", "patient", "study", "series", "instance", "uid_code")
    if database.dialect == "postgresql":
        async with database.session(SYSTEM, write=True) as session:
            await session.execute(text("SET LOCAL ROLE yy_owner"))
            await session.execute(text(f"ANALYZE {', '.join(tables)}"))
