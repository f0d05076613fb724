"""Conditions of steps: SQL over a few facts, each decided as early as it can be."""

from dataclasses import asdict, dataclass

import polars as pl

from daskae.errors import SettingsError
from daskae.partition import PartitionRef
from daskae.schema import sql_expression

PARTITION_FACTS = ("partition_bytes", "partition_files")


@dataclass(frozen=True)
class DataSetFacts:
    """What is known of the whole input before the run."""

    dataset_bytes: int
    dataset_files: int
    dataset_partitions: int
    """Partitions of a run from nothing; it depends on the block size, the other two do not."""


def partition_facts(ref: PartitionRef) -> dict[str, int]:
    """Return what a condition may ask of a partition."""
    return {"partition_bytes": ref.nbytes, "partition_files": len({segment.label for segment in ref.segments})}


def asked_facts(condition: str, where: str) -> tuple[str, ...]:
    """Return the facts that a condition names, once it is known to be one.

    Raises
    ------
    SettingsError
    """
    expression = sql_expression(condition, where)
    names = tuple(dict.fromkeys(expression.meta.root_names()))
    known = (*DataSetFacts.__dataclass_fields__, *PARTITION_FACTS)
    for name in names:
        if name not in known:
            raise SettingsError("a condition asks for an unknown fact", where, name, ", ".join(known))
    holds(condition, dict.fromkeys(known, 1), where)
    return names


def holds(condition: str, facts: dict[str, int], where: str) -> bool:
    """Whether a condition is true of some facts; null is not true.

    Raises
    ------
    SettingsError
        If it is not a condition.
    """
    row = pl.DataFrame({name: [value] for name, value in facts.items()}, schema=dict.fromkeys(facts, pl.Int64()))
    try:
        found = row.select(sql_expression(condition, where).alias("x")).to_series()
    except pl.exceptions.PolarsError as error:
        text = " ".join(str(error).split())[:200]
        raise SettingsError("a condition does not fit its facts", where, condition, hint=text) from None
    if found.dtype != pl.Boolean:
        raise SettingsError("a condition is not one", where, f"{condition} is {found.dtype}", "true or false")
    return bool(found[0])


def as_pairs(facts: DataSetFacts, names: tuple[str, ...]) -> tuple[tuple[str, int], ...]:
    """Return the data set's facts among some names, to be kept with a step."""
    return tuple((name, value) for name, value in asdict(facts).items() if name in names)
