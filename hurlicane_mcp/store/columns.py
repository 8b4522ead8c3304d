"""Column types that mean the same on SQLite and PostgreSQL."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import JSON, BigInteger, Column, DateTime, Integer, Text
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator
from sqlmodel import Field

NANO = Decimal(1_000_000_000)
# 64 bits on both. SQLite counts rows by itself only in a column that is called exactly INTEGER.
WIDE: Any = BigInteger().with_variant(Integer(), "sqlite")


class UtcDateTime(TypeDecorator[datetime]):
    """Aware datetimes in UTC. A naive one is refused: it would be a guess."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a datetime without a time zone cannot be stored")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: Any | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Usd(TypeDecorator[Decimal]):
    """US dollars, exact to a billionth: kept as whole nano-dollars, so SQL can add them up."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> int | None:
        return None if value is None else int((value * NANO).to_integral_value())

    def process_result_value(self, value: Any | None, dialect: Dialect) -> Decimal | None:
        return None if value is None else Decimal(int(value)) / NANO


def seq_column() -> Any:
    """The order of creation, counted by the database."""
    return Field(default=None, sa_column=Column(WIDE, primary_key=True, autoincrement=True))


def count_column() -> Any:
    """A count that may outgrow 32 bits, 0 at first."""
    return Field(default=0, sa_column=Column(WIDE, nullable=False, default=0))


def time_column(*, nullable: bool = True) -> Any:
    """A moment. Each call makes a column of its own, as SQLAlchemy needs."""
    return Field(default=None, sa_column=Column(UtcDateTime(), nullable=nullable))


def money_column() -> Any:
    """US dollars, 0 at first."""
    return Field(default=Decimal(0), sa_column=Column(Usd(), nullable=False, default=Decimal(0)))


def text_column(*, default: str | None = "") -> Any:
    """A long text; with *default* None it may be missing."""
    column: Any = Column(Text(), nullable=default is None, default=default)
    return Field(default=default, sa_column=column)


def json_column(factory: Any) -> Any:
    """JSON, at first what *factory* makes."""
    column: Any = Column(JSON, nullable=False, default=factory)
    return Field(default_factory=factory, sa_column=column)


def optional_json_column() -> Any:
    """JSON, or nothing."""
    return Field(default=None, sa_column=Column(JSON(none_as_null=True), nullable=True))


def usd_column() -> Any:
    """US dollars, or another exact figure, or nothing."""
    return Field(default=None, sa_column=Column(Usd(), nullable=True))
