"""The file of a database that lives in one: where it is, and whether it can be written."""

import os
from pathlib import Path

from daskae.errors import LoadError


def check_database_file(path: Path) -> None:
    """Refuse a missing folder, and what cannot be written.

    Raises
    ------
    LoadError
        Naming the folder or the file.
    """
    folder = path.parent
    if not folder.is_dir():
        raise LoadError(
            "the folder of the database does not exist", where=str(folder), hint="create it, or correct the path"
        )
    if path.is_dir():
        raise LoadError("the path of the database is a folder", where=str(path), hint="name a file in it")
    # A journal is written beside the database, so the folder must be writable too.
    for place in (folder, path):
        if place.exists() and not os.access(place, os.W_OK):
            raise LoadError(
                "the database cannot be written", where=str(place), hint="give write access, or choose another path"
            )
