"""Hand the finished tables to the target, all of them or none, once."""

from datetime import datetime

from daskae.exchange import file_checksum
from daskae.hashing import digest_texts
from daskae.load.base import Load, Receipt, Sink, TableParts
from daskae.load.targets import open_sink
from daskae.run.context import RunContext
from daskae.run.gate import Outcome
from daskae.run.plan import Plan
from daskae.run.tables import empty_tables, finished_tables


def preflight(plan: Plan, context: RunContext) -> Sink:
    """Open the target and check that it can take the tables, before any work is done.

    Raises
    ------
    LoadError, SettingsError
    """
    sink = open_sink(context.settings.to)
    sink.preflight(_load(context, "preflight", 0, empty_tables(plan.spec)))
    return sink


def publish(sink: Sink, plan: Plan, outcome: Outcome, context: RunContext) -> Receipt:
    """Publish the tables, unless the target holds this very load already.

    The load is identified by its content: the bytes of the finished tables. The same command after a crash, or again
    the
    next day over the same input, gives the same id, whatever the partitioning was.

    Raises
    ------
    LoadError, TargetBusyError
    """
    with context.stage("publish"):
        tables = finished_tables(plan.spec, outcome, context.run_dir)
        load = _load(context, content_id(tables), outcome.rows.read, tables)
        context.load_id, context.tables = load.load_id, tables
        return sink.preflight(load) or sink.publish(load)


def _load(context: RunContext, load_id: str, source_rows: int, tables: tuple[TableParts, ...]) -> Load:
    started: datetime = context.started.replace(tzinfo=None, microsecond=0)
    return Load(load_id, context.run_id, context.settings.strategy, source_rows, started, tables)


def content_id(tables: tuple[TableParts, ...]) -> str:
    """Return the identity of finished tables: names, schemas and content."""
    texts = []
    for table in tables:
        texts += [table.name, str(table.schema), *(file_checksum(path)[1] for path in table.files)]
    return digest_texts(*texts)[:32]
