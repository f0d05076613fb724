"""What must not be in the tree: code from data, shells, loaders that run what they read, sockets for everybody."""

import ast
import json
import os
import pickle
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import xxhash

from daskae.errors import DaskaeError
from daskae.exchange import MANIFEST
from daskae.hashing import file_checksum
from daskae.validate import reference
from tests.support import EXACT_DUPLICATE, ROOT, Run, assert_same, orders_csv, run

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


class Bomb:
    """What makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.path,))


def plant(path: Path, mark: Path, as_array: bool) -> None:
    """Put a pickle in the place of a stored file, and let the manifest beside it say that it is what was written."""
    if as_array:
        with path.open("wb") as file:
            np.save(file, np.array([Bomb(mark)], dtype=object), allow_pickle=True)
    else:
        path.write_bytes(pickle.dumps(Bomb(mark)))
    manifest = path.parent / MANIFEST
    if path == manifest or not manifest.exists():
        return
    outer = json.loads(manifest.read_text())
    body = json.loads(outer["body"])
    described = body["files"].values() if isinstance(body["files"], dict) else body["files"]
    for file in described:
        if file["name"] == path.name:
            file["nbytes"], file["checksum"] = file_checksum(path)
    text = json.dumps(body, separators=(",", ":"))
    manifest.write_text(json.dumps({"checksum": xxhash.xxh3_128_hexdigest(text.encode()), "body": text}))


PLACES = ["maps/*/*/rows-*", "maps/*/*/keys-*", "maps/*/*/rejects-*", "steps/*/states-*.arrow",
          "steps/*/states-*.npy",
          "steps/*/late-*", "steps/*/customers-*", "steps/*/rejected-*", "steps/*/repeated-*", "maps/*/*/manifest.json",
          "steps/*/manifest.json", "scans/*", "references/*/keys.arrow", "references/*/manifest.json",
          "turns/*"]  # fmt: skip


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Run]:
    """An input, and what a run over it has left in its work directory."""
    folder = tmp_path_factory.mktemp("stored")
    path = folder / "orders.csv"
    path.write_bytes(orders_csv(60))
    os.utime(path, (1_700_000_000, 1_700_000_000))
    (folder / "known.csv").write_text("customer_id\nC1\nC2\nC3\n")
    calm = start(folder, folder)
    shutil.copytree(folder / "work", folder / "kept")
    return folder, calm


def start(folder: Path, target: Path, **flags: Any) -> Run:
    known = {"rule": "reference", "name": "known", "column": "customer_id", "source": f"{folder}/known.csv"}
    rules = [{"rule": "unique", "name": "again", "columns": ["quantity"]}, EXACT_DUPLICATE, known]
    return run(folder / "orders.csv", target, rules=rules, work_dir=folder / "work", **flags)


@pytest.mark.parametrize("as_array", [False, True], ids=["pickle", "array"])
@pytest.mark.parametrize("place", PLACES)
def test_a_pickle_in_the_place_of_a_stored_file_is_never_run(
    place: str, as_array: bool, stored: tuple[Path, Run], tmp_path: Path
) -> None:
    folder, calm = stored
    mark, work = tmp_path / "mark", folder / "work"
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(folder / "kept", work)  # steps are known by the path of the work directory, too
    reference._open.cache_clear()
    found = sorted(work.glob(place))
    assert found
    for path in found:
        plant(path, mark, as_array)
    if place.startswith("references"):
        shutil.rmtree(work / "maps")
    # It is made again, or refused. A quarantine is looked at by who reads it, here by Arrow.
    refused = (DaskaeError, pa.ArrowInvalid) if "rejected" in place else (DaskaeError,)
    try:
        with suppress(*refused):  # other definitions need every kind of file again
            start(folder, tmp_path, as_of="2024-06-01")
        with suppress(*refused):
            assert_same(start(folder, tmp_path), calm)
    finally:
        assert not mark.exists()
    pickle.loads(pickle.dumps(Bomb(mark)))
    assert mark.exists(), "the pickle does what it is there for"
