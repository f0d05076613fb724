"""Arguments that all tasks of a stage share, packed once, with a user's own code inside.

Dask sends functions by the name of their module. A rule or metric of a user's script has a module that workers
elsewhere cannot import, so code that is no installed package travels by value.
"""

import site
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

import cloudpickle

_OURS = ("daskae", "jobs")


def pack(shared: tuple[Any, ...], by_value: bool) -> bytes:
    """Pack arguments; with ``by_value`` the modules that other machines cannot have travel along."""
    if not by_value:
        return bytes(cloudpickle.dumps(shared))
    with _sent_by_value():
        return bytes(cloudpickle.dumps(shared))


@lru_cache(maxsize=2)
def unpack(parcel: bytes) -> tuple[Any, ...]:
    """Return the packed arguments; a worker unpacks them once for all tasks of a stage."""
    # It comes over the connection that brings the tasks themselves, and is never stored.
    shared: tuple[Any, ...] = cloudpickle.loads(parcel)
    return shared


@contextmanager
def _sent_by_value() -> Iterator[None]:
    mine = [module for module in list(sys.modules.values()) if is_own(module)]
    known = cloudpickle.list_registry_pickle_by_value()
    added = [module for module in mine if module.__name__ not in known]
    for module in added:
        cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        for module in added:
            cloudpickle.unregister_pickle_by_value(module)


def is_own(module: ModuleType) -> bool:
    """Whether a module is Python source outside of all places where packages are installed, and not ours."""
    file = getattr(module, "__file__", None)
    if not isinstance(module, ModuleType) or not file or not str(file).endswith(".py"):
        return False
    if module.__name__ == "__main__" or module.__name__.partition(".")[0] in _OURS:
        return False  # __main__ always travels by value
    path = Path(file)
    if any(path.is_relative_to(place) for place in _installed()):
        return False
    depth = module.__name__.count(".") + (path.name == "__init__.py")
    return len(path.parents) <= depth or not _is_for_packages(path.parents[depth])


@lru_cache(maxsize=1)
def _installed() -> tuple[Path, ...]:
    paths = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    paths |= {*site.getsitepackages(), site.getusersitepackages(), sys.prefix + "/lib", sys.base_prefix + "/lib"}
    return tuple({found for path in paths if path for found in (Path(path), Path(path).resolve())})


@lru_cache(maxsize=256)
def _is_for_packages(folder: Path) -> bool:
    """Whether packages are installed in a folder: one that PYTHONPATH names, as batch systems' modules set it."""
    return any(folder.glob("*.dist-info"))
