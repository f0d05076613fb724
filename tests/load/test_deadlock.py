"""Two sessions that wait for each other: the database ends one of them, and the load is in whole or not at all."""

import threading
from pathlib import Path

import sqlalchemy as sa

from daskae.errors import TargetBusyError
from tests.fault_log import checked, fault
from tests.support import until

from .building import A, B, build_load, shop
from .databases import Database

WAITING = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'daskae' AND wait_event_type = 'Lock'"


class Publisher(threading.Thread):
    """Publishes beside the test."""

    def __init__(self, database: Database, folder: Path) -> None:
        super().__init__()
        self.database, self.load = database, build_load(folder, B, shop("south", 40))
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            self.database.sink().publish(self.load)
        except Exception as error:
            self.error = error


def test_a_load_and_a_program_in_opposite_order(postgresql: Database, tmp_path: Path) -> None:
    postgresql.sink().publish(build_load(tmp_path, A, shop("north", 40)))
    before = postgresql.rows("customer_metrics"), postgresql.rows("kpis")
    publisher = Publisher(postgresql, tmp_path)
    with sa.create_engine(postgresql.plain_url, poolclass=sa.NullPool).connect() as other:
        other.exec_driver_sql("SET deadlock_timeout = '5min'")  # so that the load is the one that is ended
        other.exec_driver_sql("UPDATE kpis SET value = 7")
        publisher.start()
        until(lambda: bool(postgresql.query(WAITING)), "the load to wait")
        fault("held lock", "two sessions that wait for each other", "publisher", "postgresql")
        other.exec_driver_sql("UPDATE customer_metrics SET spent = 1")
        other.rollback()
    publisher.join(120)
    assert isinstance(publisher.error, TargetBusyError)
    assert "waited for each other" in publisher.error.what
    assert "run the same command again" in publisher.error.hint
    assert (postgresql.rows("customer_metrics"), postgresql.rows("kpis")) == before
    assert not postgresql.sink().publish(publisher.load).already_published
    assert {row["shop"] for row in postgresql.rows("customer_metrics")} == {"south"}
    checked("contents")
