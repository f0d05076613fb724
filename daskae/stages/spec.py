"""What a run computes, as one record that every task gets."""

import inspect
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from functools import cached_property

import polars as pl
import pyarrow as pa

from daskae.aggregate.aggregation import Aggregation, FrameMetric, Metric, State, states_of
from daskae.config import MetricSettings
from daskae.errors import EngineError
from daskae.hashing import digest_texts
from daskae.partition import Segment
from daskae.read.dialect import Dialect
from daskae.schema import Column, Contract
from daskae.transform.operations import ReadyStep, UserFunction
from daskae.transform.ready import Steps
from daskae.validate.rules import ALL_COLUMNS, Rule

FORMAT_VERSION = "4"
"""Raised whenever the files between the stages change their meaning."""

_ORDER_COLUMNS = ("customer_id", "order_id", "order_date", "amount", "lines")


@dataclass(frozen=True)
class Spec:
    """Everything that decides what a task makes of its input."""

    dialect: Dialect
    contract: Contract
    rules: tuple[Rule, ...]
    metrics: tuple[Metric, ...]
    settings: MetricSettings
    as_of: date | None = None
    samples: int = 5
    """Rows shown for each rule."""
    thorough: bool = False
    """Whether quality scores and a profile of every column are asked for."""
    skipped_rules: tuple[str, ...] = ()
    """Rules that the tags asked for leave out."""
    steps: Steps = field(default_factory=Steps)
    """Transformations."""
    checks_repeats: bool = True
    """Whether functions of a person's own are called a second time with a few rows; no part of any identity."""
    personal: tuple[str, ...] = ()
    """Columns whose values are not shown; no part of the identity of rows."""
    masks_quarantine: bool = False
    """Whether rejected rows are kept without them."""
    libraries: tuple[str, ...] = (pl.__version__, pa.__version__)
    """Versions of what reads and hashes rows, where the run was planned."""

    def require_same_libraries(self) -> None:
        """Check that this process has the libraries of the one that planned the run.

        Raises
        ------
        EngineError
        """
        here = (pl.__version__, pa.__version__)
        if here != self.libraries:
            raise EngineError(
                "a worker has other library versions than the driver", f"polars, pyarrow on {platform.node()}",
                ", ".join(here), ", ".join(self.libraries), "install the same versions everywhere",
            )  # fmt: skip

    @cached_property
    def aggregations(self) -> tuple[Aggregation, ...]:
        """Metrics that are records."""
        return tuple(item for item in self.metrics if isinstance(item, Aggregation))

    @cached_property
    def frame_metrics(self) -> tuple[FrameMetric, ...]:
        """Metrics that are functions on a pandas DataFrame."""
        return tuple(item for item in self.metrics if isinstance(item, FrameMetric))

    @cached_property
    def states(self) -> tuple[State, ...]:
        """States of all aggregations, each once."""
        return states_of(self.aggregations)

    @cached_property
    def rule_named(self) -> dict[str, Rule]:
        """Rules by name."""
        return {rule.name: rule for rule in self.rules}

    @cached_property
    def global_rules(self) -> tuple[Rule, ...]:
        """Rules that look for repeated rows, in their order."""
        return tuple(rule for rule in self.rules if rule.is_global)

    @cached_property
    def keyed_rules(self) -> tuple[Rule, ...]:
        """Unique rules by key, which need a pass by key hash; whole-row duplicates stay with their customer."""
        return tuple(rule for rule in self.global_rules if rule.columns != (ALL_COLUMNS,))

    @cached_property
    def drops_repeated_rows(self) -> bool:
        """Whether a rule looks for exact duplicates."""
        return any(rule.columns == (ALL_COLUMNS,) for rule in self.global_rules)

    @cached_property
    def rows_are_orders(self) -> bool:
        """Whether no two kept rows can share an order id, so that the id need not travel."""
        unique = any(rule.columns == ("order_id",) and rule.rejects for rule in self.keyed_rules)
        return "order_id" not in self.contract.names or unique

    @cached_property
    def final_columns(self) -> tuple[Column, ...]:
        """Columns of accepted rows after all steps."""
        return self.steps.columns or self.contract.columns

    @cached_property
    def late_columns(self) -> tuple[str, ...]:
        """Columns that are looked up when customers are grouped."""
        return tuple(name for step in self.steps.late for name in step.operation.outputs)

    @cached_property
    def extra_columns(self) -> tuple[Column, ...]:
        """Columns beyond an order's own that some metric uses; all of them for functions on frames."""
        used = {name for state in self.states for name in state.chunk.meta.root_names()}
        return tuple(
            column
            for column in self.final_columns
            if column.name not in _ORDER_COLUMNS and (self.frame_metrics or column.name in used)
        )

    def is_summed(self, column: Column) -> bool:
        """Whether an extra column of an order is the sum over its lines; what a dimension gave never is."""
        return column.dtype in ("decimal", "integer") and column.name not in self.steps.attributes

    @cached_property
    def kept_columns(self) -> tuple[str, ...]:
        """Columns that go to the exchange."""
        wants_id = not self.rows_are_orders or bool(self.frame_metrics)
        base = ["customer_id", "order_date", "amount"]
        if wants_id and "order_id" in self.contract.names:
            base.insert(1, "order_id")
        return (*base, *(column.name for column in self.extra_columns if column.name not in self.late_columns))

    @cached_property
    def checked_columns(self) -> tuple[str, ...]:
        """Columns of accepted rows that are written: what is kept, and the keys of unique rules."""
        keys = [name for rule in self.keyed_rules for name in rule.columns]
        return tuple(dict.fromkeys([*self.kept_columns, *keys]))

    def columns_to_read(self, segment: Segment) -> list[str]:
        """Return the source columns that a segment's rows are judged by."""
        if self.drops_repeated_rows or self.thorough:
            return list(segment.columns)
        names = [*self.contract.sources]
        names += [name for name in self.steps.reads if name in segment.columns]
        for rule in self.rules:
            names += [name for name in rule.columns if name not in self.contract.names and name in segment.columns]
        return list(dict.fromkeys(names))

    @cached_property
    def map_fingerprint(self) -> str:
        """Identity of everything that decides what a map task writes."""
        return digest_texts(
            FORMAT_VERSION, *self.libraries, repr(self.dialect), repr(self.contract),
            *(_rule_definition(rule) for rule in self.rules), *self.kept_columns,
            str(self.samples), str(self.thorough), *(_step_definition(step) for step in self.steps.in_tasks),
        )  # fmt: skip

    @cached_property
    def fingerprint(self) -> str:
        """Identity of everything that decides the result, the input apart."""
        return digest_texts(
            self.map_fingerprint, repr(self.settings), str(self.as_of), *(_definition(item) for item in self.metrics),
            *(_step_definition(step) for step in self.steps.late), repr(self.steps.attributes),
        )  # fmt: skip


def _rule_definition(rule: Rule) -> str:
    return rule.definition if rule.function is None else f"{rule.definition}|{_code(rule.function)}"


def _step_definition(step: ReadyStep) -> str:
    operation = step.operation
    return f"{step.definition}|{_code(operation.function)}" if isinstance(operation, UserFunction) else step.definition


def rules_contract(contract: Contract, steps: Steps) -> Contract:
    """Return the columns that rules may name: the contract's and what steps before the rules made."""
    return replace(contract, columns=steps.checked or contract.columns)


def _definition(item: Metric) -> str:
    if isinstance(item, FrameMetric):
        return "|".join([item.name, item.kind, _code(item.function)])
    states = [f"{state.name}:{state.combine}:{state.chunk.meta.serialize(format='json')}" for state in item.states]
    return "|".join([item.name, item.kind, *states, _code(item.finalize)])


def _code(function: object) -> str:
    """Text that changes when a function does: its source, or its byte code where there is none."""
    try:
        return inspect.getsource(function)  # type: ignore[arg-type]
    except (OSError, TypeError):
        code = getattr(function, "__code__", None)
        return repr(function) if code is None else code.co_code.hex() + repr(code.co_consts)


def sample_table(contract: Contract, available: Sequence[str]) -> pl.DataFrame:
    """Return an empty table as rules see it: contract columns with their types, other source columns as text."""
    types: dict[str, pl.DataType] = {
        "text": pl.String(), "decimal": pl.Decimal(38, contract.scale), "integer": pl.Int64(), "float": pl.Float64(),
        "datetime": pl.Datetime("us"), "date": pl.Date(), "boolean": pl.Boolean(),
    }  # fmt: skip
    schema: dict[str, pl.DataType] = {column.name: types[column.dtype] for column in contract.columns}
    schema.update({name: pl.String() for name in available if name not in schema})
    return pl.DataFrame(schema=schema)
