"""A prefecture's index for the planner: thousands of owners, a hundred thousand studies."""

from __future__ import annotations

from sqlalchemy import text

from kernel.db.database import Database
from tests.identity.places import SYSTEM

STUDIES = 100_000
INSTITUTIONS = 230
DEPARTMENTS = 16  # of each institution
CLINIC = 2 + INSTITUTIONS  # the owner with few studies
CLINIC_STUDIES = 50
OWNERS = 1 + INSTITUTIONS + 1 + INSTITUTIONS * DEPARTMENTS

# Institution n owns its share of the studies, the clinic the last 50; departments own nothing.
_OWNER = f"CASE WHEN n > {STUDIES - CLINIC_STUDIES} THEN {CLINIC} ELSE 2 + n % {INSTITUTIONS} END"
_NUMBERS = (
    f"WITH RECURSIVE many (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM many WHERE n < {STUDIES})"
)
_DAY = "CAST(20200101 + n % 5 * 10000 + n / 7 % 12 * 100 + n / 3 % 28 AS TEXT)"
_FILL = (
    "INSERT INTO uid_code (id, uid)"
    " VALUES (1, '1.2.840.10008.5.1.4.1.1.2'), (2, '1.2.840.10008.1.2.1')",
    "INSERT INTO pack (id, kind, state, bytes) VALUES (1, 'pack', 'live', 1)",
    f"INSERT INTO person_name (id, display, folded, hanzi, pinyin, initials) {_NUMBERS}"
    " SELECT n, 'N' || n, 'n' || n, '', 'n' || n, 'n' FROM many WHERE n <= 20000",
    f"INSERT INTO patient (id, owner_id, patient_id, name_id, attrs) {_NUMBERS}"
    f" SELECT n, {_OWNER}, 'P' || n, 1 + n % 20000, '{{}}' FROM many",
    f"INSERT INTO study (id, owner_id, patient_fk, study_instance_uid, name_id, referring_name_id,"
    f" study_date, accession_number, attrs) {_NUMBERS}"
    f" SELECT n, {_OWNER}, n, '1.2.' || n, 1 + n % 20000, 1, {_DAY}, 'A' || n, '{{}}' FROM many",
    f"INSERT INTO series (id, owner_id, study_fk, series_instance_uid, modality, series_number,"
    f" attrs, instances) {_NUMBERS}"
    f" SELECT n, {_OWNER}, n, '1.3.' || n, 'CT', 1, '{{}}', 1 FROM many",
    f"INSERT INTO instance (id, owner_id, series_fk, sop_instance_uid, sop_class_id,"
    f" transfer_syntax_id, frames, pack_id, byte_offset, byte_length, batch_id) {_NUMBERS}"
    f" SELECT n, {_OWNER}, n, '1.4.' || n, 1, 2, 1, 1, n, 1, 1 FROM many",
)


def all_owners() -> frozenset[int]:
    """The prefecture's scope."""
    return frozenset(range(2, OWNERS + 1))


async def fill(database: Database) -> None:
    """Make the rows and let the planner count them."""
    async with database.session(SYSTEM, write=True) as session:
        owners = (
            f"INSERT INTO owner (id, path, state) {_NUMBERS}"
            f" SELECT n, '/52/' || n, 'active' FROM many WHERE n > 1 AND n <= {OWNERS}"
        )
        for statement in (owners, *_FILL):
            await session.execute(text(statement.replace(":", "\\:")))
    tables = ("owner", "person_name", "patient", "study", "series", "instance", "uid_code")
    if database.dialect == "postgresql":
        async with database.session(SYSTEM, write=True) as session:
            await session.execute(text("SET LOCAL ROLE yy_owner"))
            await session.execute(text(f"ANALYZE {', '.join(tables)}"))
