"""Check all steps against the columns they find, in their order, and make them ready to run."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import polars as pl

from daskae.errors import SettingsError
from daskae.schema import CONTRACT_TYPES, Column
from daskae.transform.builtin import BUILDERS, DEDUPE, ENRICH
from daskae.transform.conditions import PARTITION_FACTS, DataSetFacts, as_pairs, asked_facts, holds
from daskae.transform.dimensions import build_lookup
from daskae.transform.enrich import enrich
from daskae.transform.fold import Fold, Surroundings, first_fold
from daskae.transform.functions import build_user_function
from daskae.transform.kinds import kind_of, settled
from daskae.transform.operations import Dedupe, Expressions, Lookup, Operation, ReadyStep, UserFunction
from daskae.transform.parameters import require_parameters
from daskae.transform.ready import Steps
from daskae.transform.registry import Registered, known_names, registered
from daskae.transform.steps import Step, require_names
from daskae.transform.view import View, named


def build_steps(steps: Sequence[Step], around: Surroundings, taken: Sequence[str] = ()) -> Steps:
    """Check and build all enabled steps whose condition may hold.

    Parameters
    ----------
    steps : sequence of Step
    around : Surroundings
    taken : sequence of str
        Names of rules and other reasons.

    Raises
    ------
    SettingsError
        Naming the step.
    """
    enabled = [step for step in steps if step.enabled]
    require_names(enabled, taken)
    wanted, left_out, warnings = [], [], []
    for step in enabled:
        names = _asked(step)
        if any(name in (*PARTITION_FACTS, "dataset_partitions") for name in names):
            warnings.append(f"step {step.title}: its condition makes the result depend on how the input is cut")
        if _may_run(step, names, around.facts):
            wanted.append(step)
        else:
            left_out.append((step.title, step.at))
    fold = first_fold(around)
    before = _in_order([step for step in wanted if step.at == "before_rules"], fold)
    checked, gone = fold.columns(), tuple(fold.gone)
    after = _in_order([step for step in wanted if step.at == "after_rules"], fold)
    both: list[ReadyStep | Dedupe] = [*before, *after]
    ready = [item for item in both if isinstance(item, ReadyStep)]
    late = tuple(item for item in ready if item.at == "late")
    _require_settled_customers(ready)
    return Steps(
        tuple(item for item in ready if item.at == "before_rules"),
        tuple(item for item in ready if item.at == "after_rules"),
        late,
        tuple(item for item in both if isinstance(item, Dedupe)),
        tuple(fold.reads), checked, gone, _with_late(fold.columns(), late),
        (*fold.attributes, *(name for item in late for name in item.operation.outputs)),
        tuple(left_out), tuple(warnings),
    )  # fmt: skip


def _require_settled_customers(steps: Sequence[ReadyStep]) -> None:
    """Refuse a step that may change customers behind a look-up that waits for them to be grouped."""
    late = None
    for step in steps:
        operation = step.operation
        changes = isinstance(operation, UserFunction) or "customer_id" in operation.outputs
        if late is not None and changes:
            raise SettingsError(
                "a step after it may change the customer that a large dimension is joined by", f"step {late}",
                step.name, hint=f"put {late} behind {step.name}",
            )  # fmt: skip
        late = step.name if step.at == "late" else late


def _with_late(columns: tuple[Column, ...], late: Sequence[ReadyStep]) -> tuple[Column, ...]:
    found = list(columns)
    for step in late:
        for name in step.operation.outputs:
            kind = kind_of(step.schema[name])
            assert kind is not None
            if name in (column.name for column in found):
                raise SettingsError("a column of that name is there already", f"step {step.name}", name,
                                    hint="set parameters.prefix")  # fmt: skip
            found.append(Column(name, kind, "", is_expression=False))
    return tuple(found)


def _asked(step: Step) -> tuple[str, ...]:
    return () if step.condition is None else asked_facts(step.condition, f"step {step.title}, condition")


def _may_run(step: Step, names: Sequence[str], facts: DataSetFacts) -> bool:
    if step.condition is None or any(name in PARTITION_FACTS for name in names):
        return True
    return holds(step.condition, asdict(facts), f"step {step.title}, condition")


def _in_order(steps: Sequence[Step], fold: Fold) -> list[ReadyStep | Dedupe]:
    result: list[ReadyStep | Dedupe] = []
    for step in steps:
        built = _build(step, fold)
        if isinstance(built, ReadyStep) and built.at != "late":
            fold.take(built)
        if isinstance(built, Dedupe):
            fold.need(built.columns)
        result.append(built)
    return result


def _build(step: Step, fold: Fold) -> ReadyStep | Dedupe:
    where = f"step {step.title}"
    view = View(fold.schema, fold.around.contract.scale, where)
    names = _asked(step)
    local = any(name in PARTITION_FACTS for name in names)
    function, given = _function_of(step, where)
    if function == DEDUPE:
        return _dedupe(step, given, view, local)
    operation: Operation
    if function == ENRICH:
        require_parameters(enrich, given, where)
        operation = build_lookup(view, fold.around.place, given)
        if operation.is_late:
            _require_always(local, where)
            return ReadyStep(
                step.title, "late", step.on_error, operation, pl.Schema(operation.dtypes),
                description=step.description, tags=step.tags,
            )  # fmt: skip
    elif isinstance(function, str):
        require_parameters(BUILDERS[function], given, where)
        operation = BUILDERS[function](view, **given)
        if operation.drops or operation.renames:
            _require_always(local, where)
    else:
        return _user_step(step, function, given, view, fold)
    schema = settled(_after(operation, view), view.schema, view.scale, where)
    return _ready(step, operation, schema, fold)


def _ready(step: Step, operation: Operation, schema: pl.Schema, fold: Fold) -> ReadyStep:
    names = _asked(step)
    local = any(name in PARTITION_FACTS for name in names)
    if local or step.on_error != "raise":
        _require_same_types(operation, schema, fold, f"step {step.title}")
    return ReadyStep(
        step.title, step.at, step.on_error, operation, schema, (step.condition or "") if local else "",
        as_pairs(fold.around.facts, names) if local else (), step.description, step.tags,
    )  # fmt: skip


def _require_same_types(operation: Operation, schema: pl.Schema, fold: Fold, where: str) -> None:
    """Refuse a new type for a column of rows of which some may be left as they are."""
    for name in operation.outputs:
        if name in fold.schema and name in schema and fold.schema[name] != schema[name]:
            raise SettingsError(
                "a step that may leave rows as they are must not change a column's type", where,
                f"{name}: {fold.schema[name]} to {schema[name]}", "a column of its own",
            )  # fmt: skip


def _user_step(step: Step, function: Registered, given: dict[str, Any], view: View, fold: Fold) -> ReadyStep:
    require_parameters(function.function, given, view.where)
    sources = fold.around.common if function.reads is None else function.reads
    for name in function.reads or ():
        view.kind(name)
    own = [column.name for column in fold.columns()]
    takes = tuple(name for name in dict.fromkeys([*own, *sources]) if name in view.schema)
    operation, schema = build_user_function(function, given, takes, view)
    return _ready(step, operation, schema, fold)


def _require_always(local: bool, where: str) -> None:
    if local:
        raise SettingsError(
            "this step cannot depend on the partition", f"{where}, condition", ", ".join(PARTITION_FACTS),
            "facts of the data set",
        )  # fmt: skip


def _function_of(step: Step, where: str) -> tuple[str | Registered, dict[str, Any]]:
    """Return what a step calls and with what: a built-in function's name, or a registered function."""
    given = dict(step.parameters)
    if step.column is not None:
        if "column" in given:
            raise SettingsError("a step has its column twice", where, "column and parameters.column", "one of them")
        given["column"] = step.column if isinstance(step.column, str) else list(step.column)
    if (step.function is None) == (step.expression is None):
        raise SettingsError("a step needs a function or an expression, and not both", where)
    if step.expression is not None:
        given["expression"] = step.expression
        return ("filter" if step.column is None else "derive"), given
    if callable(step.function):
        return Registered(step.title, step.function), given
    assert step.function is not None
    if step.function in BUILDERS or step.function in (DEDUPE, ENRICH):
        return step.function, given
    found = registered(step.function)
    if found is None:
        raise SettingsError(
            "a step names an unknown function", where, repr(step.function), ", ".join(known_names()),
            "register it in your script before the run",
        )  # fmt: skip
    return found, given


def _dedupe(step: Step, given: dict[str, Any], view: View, local: bool) -> Dedupe:
    def dedupe(table: object, *, column: str | list[str]) -> None: ...

    require_parameters(dedupe, given, view.where)
    _require_always(local, view.where)
    names = named(given["column"], view.where)
    for name in names:
        view.kind(name)
    return Dedupe(step.title, tuple(names), step.description, step.tags)


def _after(operation: Expressions | Lookup | UserFunction, view: View) -> pl.Schema:
    """Columns and types after an operation, before they are settled."""
    if isinstance(operation, Lookup):
        return pl.Schema({**view.schema, **operation.dtypes})
    assert isinstance(operation, Expressions)
    for name in operation.outputs:
        _require_new_or_free(name, view)
    try:
        table = view.schema.to_frame().lazy().with_columns(operation.columns)
        return table.drop(operation.drops).rename(dict(operation.renames)).collect_schema()
    except pl.exceptions.PolarsError as error:
        text = " ".join(str(error).split())[:200]
        raise SettingsError("a step does not fit its columns", view.where, hint=text) from None


def _require_new_or_free(name: str, view: View) -> None:
    """Refuse a column that is named as one of the contract which the data do not have."""
    if name in CONTRACT_TYPES and name not in view.schema:
        raise SettingsError(
            f"{name} is a column of the contract that these data do not have", view.where, name,
            "a name of your own, or a column of the data", f"name its source in [columns] {name} = ...",
        )  # fmt: skip
    if name.startswith("_") or not name:
        raise SettingsError("a column's name is not allowed", view.where, repr(name), "no underscore in front")
