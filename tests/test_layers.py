"""Who may import whom, as data, against every import there is, those inside functions too."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# Each unit with the units it may import besides its own; what is not here is not allowed.
L0: dict[str, set[str]] = {
    "__init__": set(),
    "masking": set(),
    "durable": set(),
    "errors": {"masking"},
    "units": set(),
    "faults": set(),
    "repeats": {"errors"},
    "budget": set(),
    "hashing": set(),
    "sealed": {"hashing"},
    "silence": {"errors"},
    "patterns": set(),
    "allocators": set(),
    "arrow": set(),
}
L1: dict[str, set[str]] = {
    "config": set(L0),
    "schema": {*L0, "config"},
    "partition": set(L0),
    "batch": {*L0, "partition"},
    "events": set(L0),
    "summary": {*L0, "events"},
    "synthetic": set(L0),
    "sketches": {"hashing"},
}
_CONTRACT = {*L0, "config", "schema", "partition", "batch"}
L2: dict[str, set[str]] = {
    "read": _CONTRACT - {"schema"},
    "ingest": _CONTRACT - {"schema"},
    "validate": {*_CONTRACT, "sketches"},
    "transform": _CONTRACT,
    "aggregate": _CONTRACT,
    "load": {*L0, "config"},
    "exchange": {*L0, "partition"},
}
L4: dict[str, set[str]] = {
    "monitor": {*L0, "events"},
    "report": {*L0, "summary"},
    "engine": {*L0, "config", "events", "monitor"},
}
_ALL_BELOW = {*L0, *L1, *L2} - {"synthetic"}
L3: dict[str, set[str]] = {
    "profile": {*_CONTRACT, "patterns", "sketches", "validate"},
    "stages": {"profile", *_ALL_BELOW} - {"load", "events", "summary"},
    "interop": {*L0, "config", "schema", "validate"},
    "run": {*_ALL_BELOW, *L4, "profile", "stages"},
    "pipeline": {"run", "summary", "errors"},
    "run.job": {*_ALL_BELOW, *L4, "profile", "stages", "run", "pipeline"},
    "run.dry": {*_ALL_BELOW, *L4, "stages", "run", "run.job"},
}
L5: dict[str, set[str]] = {
    "jobs.command": {"__init__", "errors", "run"},
    "jobs.customer_metrics": {
        "jobs.command",
        "errors",
        "allocators",
        "config",
        "summary",
        "aggregate",
        "engine",
        "load",
        "monitor",
        "report",
        "run",
        "run.job",
        "run.dry",
        "transform",
        "validate",
    },
    "jobs.history": {"jobs.command", "errors", "units", "run", "load"},
    "jobs.generate_orders": {"__init__", "errors", "units", "synthetic"},
    "jobs.quarantine": {
        "jobs.command",
        "__init__",
        "errors",
        "allocators",
        "config",
        "monitor",
        "report",
        "run",
        "run.job",
    },
    "jobs.purge": {"jobs.command", "errors", "masking", "units", "config", "run"},
    "jobs.verify": {"jobs.command", "errors", "units", "config", "load"},
    "jobs.import_rules": {"jobs.command", "errors", "config", "interop"},
    "jobs.profile_input": {
        "jobs.command",
        "errors",
        "allocators",
        "config",
        "monitor",
        "report",
        "run",
        "run.job",
    },
    "jobs": set(),
}
LAYERS = {**L0, **L1, **L2, **L3, **L4, **L5}

# Libraries that belong to one place.
PLACES = {
    "dask": {"engine"},
    "distributed": {"engine"},
    "dask_jobqueue": {"engine.slurm"},
    "dask_kubernetes": {"engine.kubernetes"},
    "bokeh": {"engine.page"},
    "cloudpickle": {"engine.parcel"},
    "tornado": {"engine.page"},
    "sqlalchemy": {"load", "read.sql"},
    "psycopg": {"load.sql.postgresql"},
    "pymysql": {"load.sql.mariadb"},
    "duckdb": {"load.sql.duckdb"},
    "requests": {"ingest"},
    "pandas": {"stages.frames", "transform.frames", "validate.frames", "engine.frames"},
    "pydantic": {"config"},
    "pydantic_settings": {"config"},
    "rich": {"monitor", "report"},
    "jinja2": {"report"},
    "markupsafe": {"report"},
    "psutil": {"monitor"},
    "fsspec": {"read", "load"},
    "cyclopts": {
        "jobs.customer_metrics",
        "jobs.command",
        "jobs.history",
        "jobs.generate_orders",
        "jobs.profile_input",
        "jobs.import_rules",
        "jobs.purge",
        "jobs.quarantine",
        "jobs.verify",
    },
}
NOWHERE = {
    "matplotlib",
    "great_tables",
    "scipy",
    "sklearn",
    "pyspark",
    "pickle",
    "yaml",
    "tests",
    "benchmarks",
}


@dataclass(frozen=True)
class Import:
    """One import of one module."""

    file: str
    line: int
    module: str
    """Who imports, without the package's name in front."""
    target: str
    """What, in full."""
    checked_only: bool
    """Whether it stands under ``if TYPE_CHECKING``."""

    def __str__(self) -> str:
        return f"{self.file}:{self.line} imports {self.target}"


@cache
def modules() -> dict[str, Path]:
    """All modules by their dotted name."""
    files = [path for folder in ("daskae", "jobs") for path in sorted((ROOT / folder).rglob("*.py"))]
    return {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in files}


def _names(node: ast.AST, known: set[str]) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    base = node.module or ""
    # ``from package import module`` names a module; ``from module import thing`` does not.
    return [f"{base}.{alias.name}" if f"{base}.{alias.name}" in known else base for alias in node.names]


@cache
def imports() -> tuple[Import, ...]:
    """Every import in the tree, wherever it stands."""
    return tuple(_all_imports())


def _all_imports() -> Iterator[Import]:
    known = set(modules())
    for module, path in modules().items():
        tree = ast.parse(path.read_text(), str(path))
        unseen = {
            id(child)
            for node in ast.walk(tree)
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
            for child in ast.walk(node)
        }
        for node in ast.walk(tree):
            for target in _names(node, known):
                yield Import(
                    str(path.relative_to(ROOT)),
                    getattr(node, "lineno", 0),
                    module.removeprefix("daskae."),
                    target,
                    id(node) in unseen,
                )


def unit_of(module: str) -> str:
    """Return the row of the table that a module falls under."""
    name = "__init__" if module == "daskae" else module.removeprefix("daskae.")
    return max((unit for unit in LAYERS if name == unit or name.startswith(f"{unit}.")), key=len, default=name)


def is_ours(target: str) -> bool:
    return target.split(".")[0] in ("daskae", "jobs")


def test_the_tree_is_read() -> None:
    assert len(modules()) > 60
    assert len(imports()) > 300
    assert any(item.module == "read.reader" and item.target == "daskae.read.sql" for item in imports()), (
        "inside a function"
    )


def test_every_module_has_a_row() -> None:
    assert [module for module in modules() if unit_of(module) not in LAYERS] == []


def test_rows_go_down_only() -> None:
    order = [*L0, *L1, *L2, *L4, "profile", "stages", "interop", "run", "pipeline", "run.job", "run.dry", *L5]
    assert sorted(order) == sorted(LAYERS)
    wrong = [
        (unit, other)
        for unit, allowed in LAYERS.items()
        for other in allowed
        if order.index(other) >= order.index(unit)
    ]
    assert [pair for pair in wrong if pair not in {("engine", "monitor")}] == []


def test_imports_keep_to_the_table() -> None:
    wrong = [
        str(item)
        for item in imports()
        if is_ours(item.target)
        and unit_of(item.target) != unit_of(item.module)
        and unit_of(item.target) not in LAYERS[unit_of(item.module)]
        # A type that is named only for the checker does not run.
        and not (item.checked_only and unit_of(item.module) == "run")
    ]
    assert wrong == []


@pytest.mark.parametrize("unit", L2)
def test_the_stages_never_import_each_other(unit: str) -> None:
    others = set(L2) - {unit}
    assert [str(item) for item in imports() if unit_of(item.module) == unit and unit_of(item.target) in others] == []
    assert not LAYERS[unit] & others


@pytest.mark.parametrize("unit", L4)
def test_listeners_and_engines_know_nothing_of_the_run(unit: str) -> None:
    above = {"run", "run.job", "run.dry", "stages", "pipeline"}
    assert [str(item) for item in imports() if unit_of(item.module) == unit and unit_of(item.target) in above] == []


@pytest.mark.parametrize("library", PLACES)
def test_a_library_has_its_place(library: str) -> None:
    places = PLACES[library]
    wrong = [
        str(item)
        for item in imports()
        if item.target.split(".")[0] == library
        and not any(item.module == place or item.module.startswith(f"{place}.") for place in places)
    ]
    assert wrong == []


@pytest.mark.parametrize("library", sorted(NOWHERE))
def test_a_library_has_no_place(library: str) -> None:
    assert [str(item) for item in imports() if item.target.split(".")[0] == library] == []


def test_imports_are_absolute() -> None:
    relative = [
        str(path.relative_to(ROOT))
        for path in modules().values()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert relative == []


def test_no_module_needs_itself() -> None:
    needs: dict[str, set[str]] = {module.removeprefix("daskae."): set() for module in modules()}
    for item in imports():
        if is_ours(item.target) and not item.checked_only:
            needs[item.module].add(item.target.removeprefix("daskae."))
    done: set[str] = set()
    while rest := {module for module in needs if module not in done and needs[module] - {module} <= done}:
        done |= rest
    assert sorted(set(needs) - done) == []


def test_nothing_is_evaluated() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in modules().values()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("eval", "exec", "compile", "__import__")
    ]
    assert wrong == []
