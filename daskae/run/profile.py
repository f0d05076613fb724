"""Profile an input: one task a partition, then one state, a document and a suggested settings file."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from daskae.config import Settings
from daskae.engine.base import Needs, choose_engine
from daskae.engine.create import create_engine
from daskae.errors import ExchangeError, InputError
from daskae.events import Listener, RunFinished, TaskDone
from daskae.exchange import MANIFEST, load_manifest
from daskae.hashing import digest_texts
from daskae.profile.finish import finish_table, read_document
from daskae.profile.hints import reading_hints
from daskae.profile.scan import Reading
from daskae.profile.state import TableState
from daskae.profile.suggest import Suggestion, suggest_settings
from daskae.read.reachable import look_at_sources, some_sources
from daskae.run.context import RunContext
from daskae.run.inputs import Source, discover
from daskae.run.overlay import correct
from daskae.run.plan import PACK_BYTES, arrange
from daskae.run.presence import present
from daskae.stages.profile import ProfileTask, profile_fingerprint, profile_partition

PROFILE, SUGGESTED = "profile.json", "settings.toml"


@dataclass(frozen=True)
class InputProfile:
    """What was found."""

    document: dict[str, Any]
    """Plain data; the same whatever the partitions, but for top values that are not exact."""
    suggestion: Suggestion
    state: TableState


def profile_input(settings: Settings, listeners: Sequence[Listener] = ()) -> InputProfile:
    """Profile all columns of an input, on the engine that the settings ask for.

    Parameters
    ----------
    settings : Settings
        Of these, the inputs, how they are read, and how work is run matter.
    listeners : sequence of Listener
        Told of every event.

    Raises
    ------
    DaskaeError
    """
    context = RunContext(settings, (), _no_engine, listeners)
    with present(context.work, settings.load.timeout_seconds):
        return _profile_input(settings, context)


def _profile_input(settings: Settings, context: RunContext) -> InputProfile:
    with context.stage("discover"):
        source = correct(discover(settings, context.scans), context)
    state = _profile_source(source, context)
    document = _document(source, state, settings)
    everywhere = set.intersection(*(set(segment.columns) for segment in source.segments))
    common = [item for item in read_document(document) if item.name in everywhere]
    suggestion = suggest_settings(common, _given(settings), ", ".join(settings.inputs))
    document["suggested"] = {
        "columns": suggestion.columns,
        "rules": list(suggestion.rules),
        "missing": {name: list(candidates) for name, candidates in suggestion.mapped.candidates.items()},
    }
    context.emit(RunFinished("done", context.elapsed()))
    return InputProfile(document, suggestion, state)


def write_profile(profile: InputProfile, folder: Path) -> tuple[Path, Path]:
    """Write the document and the suggested settings; return their paths.

    Raises
    ------
    InputError
        If the folder cannot be written.
    """
    texts = {PROFILE: json.dumps(profile.document, indent=2) + "\n", SUGGESTED: profile.suggestion.text}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            partial = folder / f".{name}.partial"
            partial.write_text(text, "utf-8")
            partial.replace(folder / name)
    except OSError as error:
        raise InputError(
            "the profile cannot be written", str(folder), error.strerror or str(error), hint="give another --out"
        ) from error
    return folder / PROFILE, folder / SUGGESTED


def _no_engine(_: object) -> Any:
    raise RuntimeError("a profile has no plan of a run")


def _profile_source(source: Source, context: RunContext) -> TableState:
    """Run the partitions whose states are not there yet, and merge all in the order of the input."""
    settings = context.settings
    given = settings.input
    reading = Reading(settings.money.scale, tuple(given.null_values), given.timezone)
    refs, _ = arrange(source.segments, {}, min(settings.block_size, PACK_BYTES))
    base = profile_fingerprint(source.dialect, reading)
    tasks = [ProfileTask(ref, context.steps(digest_texts(base, ref.content_id))) for ref in refs]
    todo = [task for task in tasks if settings.fresh or load_manifest(task.folder) is None]
    name, _ = choose_engine(settings.cluster_name, source.nbytes, settings.cluster)
    nbytes = sum(task.ref.nbytes for task in todo)
    needs = Needs(0, context.work, look_at_sources, some_sources(source.segments))
    with (
        create_engine(name, settings.cluster, settings.workers, settings.memory_limit, needs, context.emit) as engine,
        context.stage("profile", len(todo), len(tasks) - len(todo), nbytes),
    ):
        for outcome in engine.run(profile_partition, todo, source.dialect, reading):
            task = todo[outcome.index]
            rows = outcome.value["rows"]
            context.emit(TaskDone("profile", str(task), rows, task.ref.nbytes, outcome.peak_bytes, outcome.seconds))
    state = TableState()
    for task in tasks:
        state = state.merge(_load(task))
    return state


def _load(task: ProfileTask) -> TableState:
    manifest = load_manifest(task.folder)
    if manifest is None:
        raise ExchangeError("an intermediate file is damaged or gone", str(task.folder / MANIFEST), str(task))
    return TableState.from_json(manifest["state"])


def _document(source: Source, state: TableState, settings: Settings) -> dict[str, Any]:
    """Return everything found, as plain data."""
    found = finish_table(state)
    hints = reading_hints(list(state.columns), state.rows, state.broken)
    files = len({segment.label for segment in source.segments})
    return {
        "schema_version": 1,
        "inputs": list(settings.inputs),
        "files": files,
        "input_bytes": source.nbytes,
        **found,
        "hints": hints,
    }


def _given(settings: Settings) -> dict[str, dict[str, Any]]:
    """Settings that decide how the input is read, as far as they are not the defaults."""
    return {
        "input": settings.input.model_dump(mode="json", exclude_defaults=True),
        "money": settings.money.model_dump(mode="json", exclude_defaults=True),
    }
