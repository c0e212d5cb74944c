"""The commit's SQL: compiled once, the same text on SQLite and PostgreSQL."""

from __future__ import annotations

from sqlalchemy import text

from kernel.db.statement import Statement


def _sql(words: str) -> Statement:
    return Statement(text(words))


CODE_INSERT = _sql("INSERT INTO uid_code (uid) VALUES (:uid) ON CONFLICT DO NOTHING RETURNING id")
CODE_SELECT = _sql("SELECT id FROM uid_code WHERE uid = :uid")

NAME_INSERT = _sql(
    "INSERT INTO person_name (display, folded, hanzi, pinyin, initials)"
    " VALUES (:display, :folded, :hanzi, :pinyin, :initials)"
    " ON CONFLICT DO NOTHING RETURNING id"
)
NAME_SELECT = _sql("SELECT id FROM person_name WHERE display = :display")
GRAM_INSERT = _sql(
    "INSERT INTO name_gram (gram, name_id) VALUES (:gram, :name_id) ON CONFLICT DO NOTHING"
)

PATIENT_INSERT = _sql(
    "INSERT INTO patient"
    " (owner_id, issuer, patient_id, unidentified, name_id, birth_date, sex, attrs)"
    " VALUES (:owner_id, :issuer, :patient_id, :unidentified, :name_id, :birth_date, :sex, :attrs)"
    " ON CONFLICT DO NOTHING RETURNING id"
)
PATIENT_SELECT = _sql(
    "SELECT id FROM patient WHERE owner_id = :owner_id AND patient_id = :patient_id"
    " AND issuer = :issuer AND unidentified = :unidentified"
)

MERGED_SELECT = _sql(
    "SELECT into_issuer, into_patient_id, attrs FROM merged_patient"
    " WHERE owner_id = :owner_id AND patient_id = :patient_id AND issuer = :issuer"
)

STUDY_INSERT = _sql(
    "INSERT INTO study (owner_id, patient_fk, study_instance_uid, name_id, referring_name_id,"
    " study_date, study_time, accession_number, study_id, description, attrs, first_attrs,"
    " corrected, first_received_ms, last_received_ms)"
    " VALUES (:owner_id, :patient_fk, :study_instance_uid, :name_id, :referring_name_id,"
    " :study_date, :study_time, :accession_number, :study_id, :description, :attrs,"
    " :first_attrs, :corrected, :received_ms, :received_ms) ON CONFLICT DO NOTHING RETURNING id"
)
STUDY_SELECT = _sql(
    "SELECT id, overlay_version FROM study"
    " WHERE owner_id = :owner_id AND study_instance_uid = :study_instance_uid"
)
STUDY_OVERLAY = _sql("SELECT overlay_version FROM study WHERE id = :id")
STUDY_ATTRS = _sql("SELECT coalesce(first_attrs, attrs) FROM study WHERE id = :id")
STUDY_TOUCH = _sql(
    "UPDATE study SET settled_ms = 0,"
    " first_received_ms ="
    " CASE WHEN first_received_ms > :first_ms THEN :first_ms ELSE first_received_ms END,"
    " last_received_ms ="
    " CASE WHEN last_received_ms < :last_ms THEN :last_ms ELSE last_received_ms END"
    " WHERE id = :id"
    " AND (settled_ms <> 0 OR first_received_ms > :first_ms OR last_received_ms < :last_ms)"
)

SERIES_INSERT = _sql(
    "INSERT INTO series (owner_id, study_fk, series_instance_uid, modality, series_number,"
    " description, body_part, pps_date, pps_time, attrs, first_attrs)"
    " VALUES (:owner_id, :study_fk, :series_instance_uid, :modality, :series_number,"
    " :description, :body_part, :pps_date, :pps_time, :attrs, :first_attrs)"
    " ON CONFLICT DO NOTHING RETURNING id"
)
SERIES_SELECT = _sql(
    "SELECT id FROM series"
    " WHERE study_fk = :study_fk AND series_instance_uid = :series_instance_uid"
)
SERIES_ATTRS = _sql("SELECT coalesce(first_attrs, attrs) FROM series WHERE id = :id")
SERIES_ELSEWHERE = _sql(
    "SELECT t.study_instance_uid FROM series s JOIN study t ON t.id = s.study_fk"
    " WHERE s.owner_id = :owner_id AND s.series_instance_uid = :series_instance_uid"
    " AND s.study_fk <> :study_fk"
    " ORDER BY coalesce((SELECT min(i.received_ms) FROM instance i WHERE i.series_fk = s.id),"
    " 9223372036854775807), s.id LIMIT 1"
)
SERIES_ADD = _sql(
    "UPDATE series SET instances = instances + :n, bytes = bytes + :bytes,"
    " unsettled_since_ms = CASE WHEN unsettled = 0 AND unsettled + :unsettled > 0"
    " THEN :first_ms ELSE unsettled_since_ms END,"
    " unsettled = unsettled + :unsettled,"
    " last_received_ms ="
    " CASE WHEN last_received_ms < :last_ms THEN :last_ms ELSE last_received_ms END"
    " WHERE id = :id"
    " RETURNING (SELECT overlay_version FROM study WHERE study.id = series.study_fk)"
)

INSTANCE_COLUMNS = (
    "owner_id",
    "series_fk",
    "sop_instance_uid",
    "sop_class_id",
    "transfer_syntax_id",
    "instance_number",
    "frames",
    "rows",
    "columns",
    "bits_allocated",
    "pack_id",
    "byte_offset",
    "byte_length",
    "batch_id",
    "received_ms",
)
_NAMES = ", ".join(f'"{name}"' for name in INSTANCE_COLUMNS)
INSTANCE_INSERT_SQLITE = (
    f"INSERT INTO instance ({_NAMES}) VALUES ({', '.join('?' * len(INSTANCE_COLUMNS))})"  # noqa: S608
    " ON CONFLICT DO NOTHING"
)
_TYPES = ("int", "bigint", "text", "int", "int", "bigint", "int", "int", "int", "int") + (
    "bigint",
) * 5
_ARRAYS = ", ".join(f"${n}::{kind}[]" for n, kind in enumerate(_TYPES, 1))
INSTANCE_INSERT_POSTGRESQL = (
    f"INSERT INTO instance ({_NAMES}) SELECT * FROM unnest({_ARRAYS})"  # noqa: S608
    " ON CONFLICT DO NOTHING RETURNING owner_id, sop_instance_uid"
)
INSTANCE_SELECT = _sql(
    "SELECT i.id, i.received_ms, i.byte_length FROM instance i"
    " WHERE i.owner_id = :owner_id AND i.sop_instance_uid = :sop_instance_uid"
)
VERSION_SELECT = _sql(
    "SELECT id FROM instance_version WHERE instance_fk = :instance_fk"
    " AND received_ms = :received_ms AND byte_length = :byte_length"
)
VERSION_INSERT = _sql(
    "INSERT INTO instance_version (owner_id, instance_fk, sop_class_id, transfer_syntax_id,"
    " pack_id, byte_offset, byte_length, relation, study_instance_uid, series_instance_uid,"
    " source, received_ms)"
    " VALUES (:owner_id, :instance_fk, :sop_class_id, :transfer_syntax_id,"
    " :pack_id, :byte_offset, :byte_length, 'pending', :study_instance_uid, :series_instance_uid,"
    " :source, :received_ms)"
)
QUARANTINE_INSERT = _sql(
    "INSERT INTO quarantine (owner_id, reason, detail, via, source, sop_class_uid,"
    " sop_instance_uid, transfer_syntax_uid, checksum, pack_id, byte_offset, byte_length,"
    " received_ms)"
    " VALUES (:owner_id, :reason, :detail, :via, :source, :sop_class_uid,"
    " :sop_instance_uid, :transfer_syntax_uid, :checksum, :pack_id, :byte_offset, :byte_length,"
    " :received_ms) ON CONFLICT DO NOTHING"
)
MISMATCH_INSERT = _sql(
    "INSERT INTO mismatch (owner_id, study_fk, kind, series_instance_uid, sop_instance_uid,"
    " stored, received, noted_ms)"
    " VALUES (:owner_id, :study_fk, :kind, :series_instance_uid, :sop_instance_uid,"
    " :stored, :received, :noted_ms) ON CONFLICT DO NOTHING"
)

PACK_INSERT = _sql(
    "INSERT INTO pack (kind, state, owner_id, series_fk, created_ms, lease_ms)"
    " VALUES (:kind, :state, :owner_id, :series_fk, :created_ms, :lease_ms) RETURNING id"
)
PACK_SEAL = _sql(
    "UPDATE pack SET state = 'live', bytes = :bytes WHERE id = :id AND state = 'writing'"
)
PACK_COPY_INSERT = _sql(
    "INSERT INTO pack_copy (pack_id, store, key, node_id, state)"
    " VALUES (:pack_id, :store, :key, :node_id, 'good')"
)
