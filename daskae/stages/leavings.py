"""What a reduce task writes of its customers, some after some, in the order of their hash."""

import secrets
from collections import Counter
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import polars as pl

from daskae.aggregate.cohort import Cell, merge_cells
from daskae.aggregate.customer import RANKED
from daskae.exchange import ExchangeWriter, commit_files
from daskae.stages.giant import add_steps
from daskae.stages.reduce import Reduced
from daskae.stages.spec import Spec


class Leavings:
    """Writes the states and late rejects of a bucket; a context manager. It holds counts, and states of a few rows.

    Parameters
    ----------
    folder : Path
        Where the bucket's output belongs.
    spec : Spec
    """

    def __init__(self, folder: Path, spec: Spec) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._spec = folder, spec
        self._late = ExchangeWriter(folder, "late")
        self._firsts: Counter[str] = Counter()
        self._affected: Counter[str] = Counter()
        self._shown: dict[str, list[list[Any]]] = {}
        self._lines, self._orders, self._customers = 0, 0, 0
        self._states: list[pl.DataFrame] = []
        self._stems: list[str] = []
        self._days: list[date] = []
        self._cells: list[Cell] = []
        self._steps: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._late.__exit__(kind, error, trace)

    def add(self, found: Reduced, most_rows: int = 0) -> None:
        """Take what some customers leave; states are held until they are ``most_rows``."""
        self._add_late(found.late)
        self._affected.update(found.affected)
        for name, places in found.shown.items():
            self._shown[name] = sorted(self._shown.get(name, []) + places)[: self._spec.samples]
        self._lines, self._orders = self._lines + found.lines, self._orders + found.orders
        self._cells = list(merge_cells([self._cells, found.cells]))
        self._steps = [add_steps([*self._steps, found.steps])]
        if found.states is not None:
            self._states.append(found.states)
            if sum(states.height for states in self._states) >= most_rows:
                self._write_states()

    def commit(self) -> dict[str, Any]:
        """Close the files and commit the manifest.

        Returns
        -------
        dict
            ``customers``, ``lines``, ``orders``; ``states``, how the files of states are called, in the order of the
            hash; ``late`` (file or None), ``late_first`` and ``late_affected`` (rows by global rule), ``late_samples``
            (places in the input of the first exact duplicates, by rule), ``cohort`` (cells, see
            :mod:`daskae.aggregate.cohort`), ``first_day``, ``last_day``, ``steps`` (states of late look-ups, by name).
        """
        self._write_states()
        file = self._late.finish()
        late = file.name if file else None
        days = [str(min(self._days)), str(max(self._days))] if self._days else [None, None]
        manifest = {
            "late": late, "late_first": dict(self._firsts), "late_affected": dict(self._affected),
            "late_samples": self._shown, "customers": self._customers, "lines": self._lines, "orders": self._orders,
            "states": self._stems, "cohort": self._cells, "first_day": days[0], "last_day": days[1],
            "steps": self._steps[0] if self._steps else {},
        }  # fmt: skip
        names = [late, *(name for stem in self._stems for name in _files(stem))]
        return commit_files(self._folder, manifest, names, compare=self._spec.checks_repeats)

    def _add_late(self, late: pl.DataFrame) -> None:
        """Write rejected rows by partition, and count them by the first rule they broke."""
        if not late.height:
            return
        seen = pl.repeat(False, late.height, dtype=pl.Boolean, eager=True)
        for i, rule in enumerate(self._spec.global_rules):
            if f"broken_{i}" in late.columns:
                self._firsts[rule.name] += int((late[f"broken_{i}"] & ~seen).sum())
                seen |= late[f"broken_{i}"]
        self._late.append(late, (late["part"] % 256).cast(pl.UInt16).to_numpy())

    def _write_states(self) -> None:
        """Write states in customer order, and each ranked value sorted, for the order statistics."""
        if not self._states:
            return
        states, self._states = pl.concat(self._states, rechunk=True), []
        stem = f"states-{secrets.token_hex(8)}"
        states.write_ipc(self._folder / f"{stem}.arrow")
        for measure, value in RANKED.items():
            values = states.select(value.alias("v")).to_series().to_numpy()
            np.save(self._folder / f"{stem}-{measure}.npy", np.sort(values.astype(np.int64)), allow_pickle=False)
        self._stems.append(stem)
        self._customers += states.height
        self._days += [states["first"].dt.date().min(), states["last"].dt.date().max()]  # type: ignore[list-item]


def _files(stem: str) -> Sequence[str]:
    return [f"{stem}.arrow", *(f"{stem}-{measure}.npy" for measure in RANKED)]
