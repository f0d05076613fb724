"""The columns of the rows as they change from step to step."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import polars as pl

from daskae.schema import Column, Contract
from daskae.transform.conditions import DataSetFacts
from daskae.transform.kinds import dtype_of, kind_of
from daskae.transform.operations import Lookup, ReadyStep


@dataclass(frozen=True)
class Surroundings:
    """What steps are built against."""

    contract: Contract
    available: tuple[str, ...]
    """Source columns that settings may name."""
    common: tuple[str, ...]
    """Source columns that every source has."""
    facts: DataSetFacts
    place: Callable[[str], Path]
    """Gives the folder of a dimension's rows by its identity."""


@dataclass
class Fold:
    """The columns as they are after the steps so far."""

    around: Surroundings
    schema: pl.Schema
    made: dict[str, None] = field(default_factory=dict)
    """Columns that steps made or changed."""
    gone: dict[str, None] = field(default_factory=dict)
    attributes: dict[str, None] = field(default_factory=dict)
    reads: dict[str, None] = field(default_factory=dict)

    def take(self, step: ReadyStep) -> None:
        """Go past a step."""
        operation = step.operation
        self.need(operation.inputs)
        left = set(self.schema) - set(step.schema)
        self.gone.update(dict.fromkeys(sorted(left)))
        for name in operation.outputs:
            self.made[name] = None
            self.gone.pop(name, None)
            self.attributes.pop(name, None)
        if isinstance(operation, Lookup):
            self.attributes.update(dict.fromkeys(operation.outputs))
        self.schema = step.schema

    def columns(self) -> tuple[Column, ...]:
        """Columns of the contract that are left, with their present types, and what steps made."""
        known = {column.name: column for column in self.around.contract.columns}
        result = []
        for name in dict.fromkeys([*known, *self.made]):
            if name not in self.schema:
                continue
            kind = kind_of(self.schema[name])
            assert kind is not None
            column = known.get(name, Column(name, kind, "", is_expression=False))
            result.append(replace(column, dtype=kind))
        return tuple(result)

    def need(self, names: tuple[str, ...]) -> None:
        """Remember which of some columns must be read from the source for a step's sake."""
        fresh = [name for name in names if name not in self.around.contract.names and name not in self.made]
        self.reads.update(dict.fromkeys(name for name in fresh if name in self.around.available))


def first_fold(around: Surroundings) -> Fold:
    """Return the columns before any step: the contract's, and the source's others as texts."""
    schema = {column.name: dtype_of(column.dtype, around.contract.scale) for column in around.contract.columns}
    schema.update({name: pl.String() for name in around.available if name not in schema})
    return Fold(around, pl.Schema(schema))
