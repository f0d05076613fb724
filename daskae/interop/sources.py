"""Find what SOURCE names: a file of JSON or YAML, or an object in somebody's Python code."""

import importlib
import importlib.util
import json
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from daskae.errors import SettingsError
from daskae.interop.great_expectations import read_suite
from daskae.interop.pandera import read_schema
from daskae.interop.records import Suite

_ALLOWED = "a suite of Great Expectations (JSON), a Pandera schema (YAML, JSON), module:schema or file.py:Schema"
_INSTALL = "pip install 'daskae[interop]'"


def read_source(source: str) -> Suite:
    """Find the checks in a source.

    Python code that SOURCE names is imported, and so run.

    Raises
    ------
    SettingsError
        If there is no such thing, or it is neither a suite nor a schema.
    """
    path = Path(source)
    if path.suffix.lower() in (".json", ".yaml", ".yml"):
        text = _read_text(path)
        if path.suffix.lower() == ".json":
            document = _read_json(text, source)
            if "expectations" in document:
                return read_suite(document, source)
        return read_schema(_pandera_file(text, path))
    place, colon, name = source.rpartition(":")
    if not colon or not place or not name:
        raise SettingsError("not a source of rules", "SOURCE", source, _ALLOWED)
    found = _attribute(_module(place), name, source)
    if not _is_schema(found):
        raise SettingsError(
            "not a Pandera schema",
            source,
            type(found).__name__,
            "a DataFrameSchema or DataFrameModel of pandas or Polars",
        )
    return read_schema(found)


def _read_text(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        text = getattr(error, "strerror", None) or str(error)
        raise SettingsError("the source cannot be read", str(path), text, _ALLOWED) from None


def _read_json(text: str, where: str) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SettingsError("the source is not valid JSON", where, str(error)) from None
    if not isinstance(document, dict) or not {"expectations", "schema_type", "columns"} & set(document):
        raise SettingsError("neither a suite nor a schema", where, allowed=_ALLOWED)
    return document


def _pandera_file(text: str, path: Path) -> Any:
    """Read a schema that pandera has written; which of its readers, the file says itself."""
    is_polars = re.search(r"^\W*api\W+polars\b|\"api\": *\"polars\"", text, re.MULTILINE) is not None
    try:
        module = importlib.import_module(f"pandera.io.{'polars' if is_polars else 'pandas'}_io")
    except ImportError as error:
        raise SettingsError("reading Pandera's files needs pandera", str(path), str(error), hint=_INSTALL) from None
    try:
        schema = module.from_json(text) if path.suffix.lower() == ".json" else module.from_yaml(text)
    except Exception as error:  # pandera raises whatever its parsers do
        raise SettingsError("pandera cannot read this schema", str(path), _first_line(error)) from None
    if not _is_schema(schema):
        raise SettingsError("neither a suite nor a schema", str(path), allowed=_ALLOWED)
    return schema


def _is_schema(found: Any) -> bool:
    if isinstance(found, type):
        return callable(getattr(found, "to_schema", None))
    return all(hasattr(found, name) for name in ("columns", "checks", "unique")) and isinstance(found.columns, dict)


def _module(place: str) -> ModuleType:
    try:
        if not place.endswith(".py"):
            return importlib.import_module(place)
        path = Path(place).resolve()
        spec = importlib.util.spec_from_file_location(path.stem, path)
        if spec is None or spec.loader is None or not path.is_file():
            raise SettingsError("no such file", "SOURCE", place)
        module = importlib.util.module_from_spec(spec)
        sys.path.insert(0, str(path.parent))  # as Python does for a script
        try:
            spec.loader.exec_module(module)
        finally:
            sys.path.remove(str(path.parent))
    except SettingsError:
        raise
    except ModuleNotFoundError as error:
        hint = _INSTALL if (error.name or "").startswith("pandera") else ""
        raise SettingsError("a module cannot be found", place, str(error), hint=hint) from None
    except Exception as error:  # whatever somebody's code raises
        raise SettingsError("the code of the source cannot be run", place, _first_line(error)) from None
    return module


def _attribute(module: ModuleType, name: str, where: str) -> Any:
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            known = [key for key, value in vars(module).items() if not key.startswith("_") and _is_schema(value)]
            raise SettingsError("no such schema", where, name, ", ".join(known))
        found = getattr(found, part)
    return found


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip()[:200]}".splitlines()[0]
