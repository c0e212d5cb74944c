"""The table registry that every package's `tables.py` uses, and column types of both back ends."""

from datetime import UTC, datetime

from sqlalchemy import BigInteger, Dialect, Double, Integer, MetaData
from sqlalchemy.types import TypeDecorator

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# A 64-bit key; on SQLite only INTEGER can be the rowid.
BigKey = BigInteger().with_variant(Integer(), "sqlite")


class UtcTime(TypeDecorator[datetime]):
    """A moment: aware `datetime` in Python, seconds since 1970 (double) in the database.

    Both back ends store the same number, so hot statements can pass `time.time()` as it is.
    Precision is below one microsecond until the year 2100.
    """

    impl = Double
    cache_ok = True

    def process_bind_param(self, value: datetime | float | None, dialect: Dialect) -> float | None:
        """Accept an aware datetime or seconds since 1970."""
        if isinstance(value, datetime):
            if value.tzinfo is None:
                raise ValueError("a moment needs a time zone")
            return value.timestamp()
        return value

    def process_result_value(self, value: float | None, dialect: Dialect) -> datetime | None:
        """Seconds since 1970 as an aware datetime in UTC."""
        return None if value is None else datetime.fromtimestamp(value, UTC)
