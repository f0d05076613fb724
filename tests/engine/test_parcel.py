"""Which code travels to workers: a person's own, and no package, wherever packages are."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from daskae.engine.parcel import is_own


def module(name: str, path: Path) -> ModuleType:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    return importlib.util.module_from_spec(spec)


@pytest.mark.parametrize(
    ("name", "file"),
    [("single", "single.py"), ("package", "package/__init__.py"), ("package.deep.down", "package/deep/down.py")],
)
def test_packages_of_a_folder_that_pythonpath_names_stay(name: str, file: str, tmp_path: Path) -> None:
    mine, theirs = tmp_path / "mine", tmp_path / "modules" / "python"
    (theirs / "package-1.0.dist-info").mkdir(parents=True)
    assert is_own(module(name, mine / file))
    assert not is_own(module(name, theirs / file))
