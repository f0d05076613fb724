"""The databases that are loaded into: emptied before each contender, and asked afterwards what they hold."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import sqlalchemy as sa

from benchmarks.loaders.customers import TABLE, Truth
from tests.load.server import postgresql_server

Kind = Literal["postgresql", "sqlite"]
_DEFAULTS = {"shared_buffers": "128MB", "max_wal_size": "1GB"}
"""PostgreSQL's own; the tests' server is smaller."""
_SUMS = f"SELECT count(*), {{}}, sum(order_count), count(*) - count(std_order_value) FROM {TABLE}"
_UNITS = {
    "postgresql": "sum(total_revenue)",
    "sqlite": "sum(CAST(round(total_revenue * 10000) AS INTEGER)) / 10000.0",
}


@dataclass(frozen=True)
class Target:
    """A database."""

    kind: Kind
    url: str
    """As SQLAlchemy takes it."""

    def empty(self) -> None:
        """Take out all that is there."""
        if self.kind == "sqlite":
            path = Path(self.url.removeprefix("sqlite:///"))
            for file in path.parent.glob(f"{path.name}*"):
                file.unlink()
            return
        with self._connect() as connection:
            for schema in connection.scalars(sa.text("SELECT nspname FROM pg_namespace WHERE nspname ~ '^public'")):
                connection.exec_driver_sql(f'DROP SCHEMA "{schema}" CASCADE')
            connection.exec_driver_sql("CREATE SCHEMA public")
            connection.exec_driver_sql("CHECKPOINT")

    def read(self) -> Truth:
        """Count and sum what is there, exactly."""
        with self._connect() as connection:
            rows, revenue, orders, single = connection.exec_driver_sql(_SUMS.format(_UNITS[self.kind])).one()
        return Truth(rows, Decimal(str(revenue or 0)).quantize(Decimal("0.0001")), int(orders or 0), single)

    @contextmanager
    def _connect(self) -> Iterator[sa.Connection]:
        engine = sa.create_engine(self.url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
        with closing(engine.connect()) as connection:
            yield connection


@contextmanager
def open_target(kind: Kind, work: Path, url: str | None) -> Iterator[Target]:
    """Provide a database: a file in the work folder, the server of this URL, or one of our own while it lasts."""
    if kind == "sqlite":
        work.mkdir(parents=True, exist_ok=True)
        yield Target(kind, f"sqlite:///{work / 'benchmark.db'}")
    elif url:
        yield Target(kind, _with_driver(url))
    else:
        with postgresql_server(settings=_DEFAULTS) as server:
            yield Target(kind, _with_driver(server.url))


def _with_driver(url: str) -> str:
    parsed: Any = sa.make_url(url).set(drivername="postgresql+psycopg")
    return str(parsed.render_as_string(hide_password=False))
