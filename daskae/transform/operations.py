"""What a step does, ready to run: expressions, a person's function, or a look-up in a dimension."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import polars as pl

ROW = "_row"
"""Column of row numbers that a function finds beside the others; it tells whether rows were moved."""
REJECTED = "_rejected"
"""Boolean column by which a function may reject rows."""


@dataclass(frozen=True)
class Expressions:
    """Values from other values of the same row; all built-in functions are of this kind."""

    columns: tuple[pl.Expr, ...] = ()
    """Named results, all computed from the table as the step finds it."""
    rejects: pl.Expr | None = None
    """True where a row is rejected; computed from the table as the step finds it."""
    drops: tuple[str, ...] = ()
    renames: Mapping[str, str] = field(default_factory=dict)

    @property
    def inputs(self) -> tuple[str, ...]:
        """Columns it looks at."""
        expressions = [*self.columns, *([] if self.rejects is None else [self.rejects])]
        names = [name for expression in expressions for name in expression.meta.root_names()]
        return tuple(dict.fromkeys([*names, *self.renames]))

    @property
    def outputs(self) -> tuple[str, ...]:
        """Columns it makes or changes."""
        return (*(expression.meta.output_name() for expression in self.columns), *self.renames.values())

    @property
    def definition(self) -> str:
        """Everything it does, as text."""
        expressions = [*self.columns, *([] if self.rejects is None else [self.rejects.alias(REJECTED)])]
        texts = [expression.meta.serialize(format="json") for expression in expressions]
        return "|".join([*texts, *self.drops, json.dumps(dict(self.renames))])


@dataclass(frozen=True)
class UserFunction:
    """A function of a person's own."""

    function: Callable[..., Any]
    parameters: Mapping[str, Any]
    frame: bool
    takes: tuple[str, ...]
    """Columns it is given."""
    outputs: tuple[str, ...] = ()
    """Columns it makes."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """Columns it looks at."""
        return self.takes

    @property
    def definition(self) -> str:
        """Everything but the function's code, as text."""
        parameters = json.dumps(dict(self.parameters), sort_keys=True, default=repr)
        return "|".join([str(self.frame), parameters, *self.takes, "->", *self.outputs])


@dataclass(frozen=True)
class Lookup:
    """Columns of a dimension, by a key."""

    source: str
    on: str
    """Key column of the dimension."""
    columns: Mapping[str, str]
    """Columns of the dimension, with the names they get."""
    dtypes: Mapping[str, pl.DataType]
    """Types by the names they get."""
    key: str
    rejects_missing: bool
    delimiter: str
    digest: str
    """Hash of the dimension's bytes."""
    nbytes: int
    folder: str
    """Where its rows lie by slot, written before the first task runs."""
    is_late: bool = False
    """Whether it is too large for a process to hold and waits until customers are grouped."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """Columns it looks at."""
        return (self.key,)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Columns it makes."""
        return tuple(self.columns.values())

    @property
    def definition(self) -> str:
        """Everything that decides its values, as text."""
        pairs = [f"{name}={given}" for name, given in self.columns.items()]
        return "|".join([self.digest, self.on, self.key, self.delimiter, str(self.rejects_missing), *pairs])


Operation = Expressions | UserFunction | Lookup


@dataclass(frozen=True)
class ReadyStep:
    """A step that was checked against the columns it finds."""

    name: str
    at: str
    on_error: str
    operation: Operation
    schema: pl.Schema
    """Columns and types after it; source columns that nothing reads are in it too, but not in the table."""
    condition: str = ""
    """Only where it depends on the partition; any other is decided before the run."""
    facts: tuple[tuple[str, int], ...] = ()
    """What is known of the data set, as far as the condition asks for it."""
    description: str = ""
    tags: tuple[str, ...] = ()

    @property
    def definition(self) -> str:
        """Everything that decides what it does, a function's code apart, as text."""
        types = [f"{name}:{self.schema[name]}" for name in self.operation.outputs if name in self.schema]
        return "|".join(
            [self.name, self.at, self.on_error, self.condition, repr(self.facts), *types, self.operation.definition]
        )


@dataclass(frozen=True)
class Dedupe:
    """A step that keeps the first row, in input order, of each key; the unique pass does it."""

    name: str
    columns: tuple[str, ...]
    description: str = ""
    tags: tuple[str, ...] = ()
