"""Hand the finished tables to the target, all of them or none, once."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from daskae.config import Settings
from daskae.errors import SettingsError
from daskae.events import Warned
from daskae.faults import crash_point
from daskae.hashing import digest_texts, file_checksum
from daskae.load.audits import LoadCheck
from daskae.load.base import Load, LoadOptions, Receipt, Sink, TableParts
from daskae.load.shape import Drift, Metadata
from daskae.load.targets import open_sink
from daskae.load.totals import column_totals
from daskae.run.context import RunContext
from daskae.run.gate import Outcome
from daskae.run.plan import Plan
from daskae.run.tables import empty_tables, finished_tables
from daskae.run.turns import Turn, publishing
from daskae.run.verify import require_same_inputs, require_whole_outputs


def preflight(plan: Plan, context: RunContext) -> Sink:
    """Open the target and check that it can take the tables, before any work is done.

    Raises
    ------
    LoadError, SettingsError
    """
    sink = open_sink(context.settings.to, context.settings.load.timeout_seconds)
    tables = with_partitions(empty_tables(plan.spec), context.settings.load.partition_by)
    sink.preflight(make_load(context, "preflight", 0, tables))
    return sink


def publish(sink: Sink, turn: Turn, plan: Plan, outcome: Outcome, context: RunContext) -> Receipt:
    """Publish the tables, unless the target holds this very load already.

    The load is identified by its content: the bytes of the finished tables, and the options that decide what becomes
    of them. The same command after a crash, or again the next day over the same input, gives the same id, whatever the
    partitioning was. Rows that the target leaves out are kept beside the quarantine.

    Raises
    ------
    LoadError, GateError, TargetBusyError
    InputChangedError, ExchangeError
        If what the tables were made from is no longer what it was.
    """
    with context.stage("publish"):
        require_same_inputs(plan)
        tables = finished_tables(plan.spec, outcome, context.run_dir)
        tables = with_partitions(tables, context.settings.load.partition_by)
        load_id = content_id(tables, load_options(context.settings), drift_policies(context.settings))
        load = make_load(context, load_id, outcome.rows.read, tables)
        context.load_id, context.tables = load.load_id, tables
        receipt = sink.preflight(load) or _publish_in_turn(sink, load, turn, plan, context)
        context.is_loaded = True
        for rejected in receipt.rejected:
            reason = rejected.reason.replace("_", " ")
            context.emit(Warned(f"{rejected.rows} rows of {rejected.table} left out ({reason}): {rejected.file}"))
        for text in receipt.warnings:
            context.emit(Warned(f"a check of the load does not hold: {text}"))
        return receipt


def _publish_in_turn(sink: Sink, load: Load, turn: Turn, plan: Plan, context: RunContext) -> Receipt:
    with publishing(turn):
        require_whole_outputs(context)
        require_same_inputs(plan)
        load = replace(load, tables=tuple(replace(part, totals=column_totals(part)) for part in load.tables))
        crash_point("publish.before")
        receipt = sink.publish(load)
        context.is_loaded = True
        crash_point("publish.after")
        return receipt


def load_options(settings: Settings) -> LoadOptions:
    """Return what the settings say about keys and existing rows."""
    load = settings.load
    return LoadOptions(load.duplicates, load.null_keys, tuple(load.update_columns), load.on_missing, load.only_if_newer)


def drift_policies(settings: Settings) -> Drift:
    """Return what the settings say about tables with other columns than the result."""
    return Drift(settings.load.on_drift, dict(settings.load.drift))


def metadata_columns(settings: Settings) -> Metadata:
    """Return the metadata columns that the settings ask for, under the names they give them."""
    given = settings.load.metadata
    names = dict(given) if isinstance(given, dict) else {name: str(name) for name in given}
    return Metadata(names.get("_load_id"), names.get("_loaded_at"), names.get("_source_rows"))


def load_checks(context: RunContext) -> tuple[LoadCheck, ...]:
    """Return the checks of the settings, then those written in Python."""
    fields = (one.model_dump() for one in context.settings.load.checks)
    return (*(LoadCheck(**given) for given in fields), *context.load_checks)


def with_partitions(
    tables: tuple[TableParts, ...], partition_by: Sequence[str] | Mapping[str, Sequence[str]]
) -> tuple[TableParts, ...]:  # fmt: skip
    """Say of each table by which columns it is laid out in folders.

    Raises
    ------
    SettingsError
        When the setting fits no table.
    """
    if isinstance(partition_by, Mapping):
        known = {table.name for table in tables}
        if unknown := [name for name in partition_by if name not in known]:
            raise SettingsError("there is no such table", "[load.partition_by]", unknown[0], ", ".join(sorted(known)))
        chosen = {name: tuple(columns) for name, columns in partition_by.items()}
    else:
        columns = tuple(partition_by)
        chosen = {table.name: columns for table in tables if set(columns) <= set(table.schema.names)}
        if not chosen:
            raise SettingsError("no table has all of these columns", "[load] partition_by", ", ".join(columns))
    return tuple(replace(table, partition_by=chosen.get(table.name, ())) for table in tables)


def make_load(context: RunContext, load_id: str, source_rows: int, tables: tuple[TableParts, ...]) -> Load:
    """Say what is to be loaded, and how."""
    started: datetime = context.started.replace(tzinfo=None, microsecond=0)
    settings = context.settings
    return Load(
        load_id, context.run_id, settings.strategy, source_rows, started, tables, load_options(settings),
        context.run_dir / "left_out", drift_policies(settings), metadata_columns(settings), load_checks(context),
    )  # fmt: skip


def content_id(
    tables: tuple[TableParts, ...], options: LoadOptions | None = None, drift: Drift | None = None
) -> str:  # fmt: skip
    """Return the identity of finished tables: names, schemas, content, folders, and options that are not usual.

    Checks and metadata columns are no part of it: with others, the same load is still the same.
    """
    texts = [] if options in (None, LoadOptions()) else [repr(options)]
    texts += drift.identity() if drift else ()
    for table in tables:
        texts += [f"partition_by {table.partition_by}"] if table.partition_by else []
        texts += [table.name, str(table.schema), *(file_checksum(path)[1] for path in table.files)]
    return digest_texts(*texts)[:32]
