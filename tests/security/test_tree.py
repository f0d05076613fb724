"""What must not be in the tree: code from data, shells, loaders that run what they read, sockets for everybody."""

import ast
from pathlib import Path

import numpy as np
import pytest

from tests.support import ROOT

FORBIDDEN = {
    "eval", "exec", "compile", "__import__", "pickle.load", "pickle.loads", "pickle.Unpickler", "marshal.loads",
    "shelve.open", "yaml.load", "yaml.unsafe_load", "os.system", "os.popen", "pd.read_pickle", "pandas.read_pickle",
    "joblib.load", "pl.DataFrame.deserialize", "pl.Expr.deserialize", "pl.LazyFrame.deserialize",
}  # fmt: skip


def calls() -> list[tuple[str, int, ast.Call]]:
    return [
        (str(path.relative_to(ROOT)), node.lineno, node)
        for folder in ("daskae", "jobs")
        for path in sorted((ROOT / folder).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
    ]


def test_nothing_runs_what_it_reads() -> None:
    assert [(file, line) for file, line, call in calls() if ast.unparse(call.func) in FORBIDDEN] == []


def test_no_call_allows_pickles_or_a_shell() -> None:
    wrong = [
        (file, line)
        for file, line, call in calls()
        for keyword in call.keywords
        if keyword.arg in ("allow_pickle", "shell") and ast.unparse(keyword.value) != "False"
    ]
    assert wrong == []


def test_what_travels_to_workers_is_unpacked_in_one_place() -> None:
    found = {file for file, _, call in calls() if ast.unparse(call.func).startswith("cloudpickle.")}
    assert found <= {"daskae/engine/parcel.py"}


def test_sockets_for_everybody_are_in_pods_only() -> None:
    found = {str(path.relative_to(ROOT)) for path in (ROOT / "daskae").rglob("*.py") if "0.0.0.0" in path.read_text()}
    assert found <= {"daskae/engine/kubernetes.py"}


def test_a_planted_pickle_is_not_opened(tmp_path: Path) -> None:
    path = tmp_path / "states.npy"
    np.save(path, np.array([{"x": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="allow_pickle=False"):
        np.load(path)
