"""What a power cut leaves of a folder: a model of its names and bytes, fed with the system calls of a command."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support import ROOT

WRITES = ("write", "writev", "pwrite64", "pwritev", "pwritev2", "sendfile", "copy_file_range", "ftruncate", "fallocate")
NAMES = ("open", "openat", "creat", "truncate", "rename", "renameat", "renameat2", "link", "linkat", "symlink",
         "symlinkat", "unlink", "unlinkat", "mkdir", "mkdirat", "rmdir")  # fmt: skip
SYNCS = ("fsync", "fdatasync")
_LINE = re.compile(r"(\d+) +(\w+)\((.*)\) += (-?\d+)(<.*>)?[^)]*$")
_UNFINISHED = re.compile(r"(\d+) +(\w+)\((.*) <unfinished \.\.\.>$")
_RESUMED = re.compile(r"(\d+) +<\.\.\. \w+ resumed>(.*)$")
_TEXT = re.compile(r'(?:(?:AT_FDCWD|\d+)<([^>]*)>, )?"((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True)
class Call:
    """The beginning or the end of a system call that went well."""

    name: str
    arguments: str
    ended: bool


@dataclass(eq=False)
class Node:
    """A file, a folder or a link: what it is now, and what of it is on the disk."""

    is_folder: bool = False
    text: str | None = None
    """Where a link leads."""
    version: int = 0
    """How often it was written to."""
    synced: int = -1
    """The version that is on the disk; -1 for none."""
    begun: int = -1
    entries: dict[str, "Node"] = field(default_factory=dict)
    kept: dict[str, "Node"] = field(default_factory=dict)
    """Names that are on the disk."""
    asked: dict[str, "Node"] = field(default_factory=dict)

    @property
    def is_torn(self) -> bool:
        """Whether bytes of a file would be lost."""
        return not self.is_folder and self.text is None and self.synced != self.version

    def begin_sync(self) -> None:
        """Only what was there before a sync began is sure to be on the disk when it ends."""
        self.begun, self.asked = self.version, dict(self.entries)

    def end_sync(self) -> None:
        self.synced, self.kept = self.begun, self.asked


class Disk:
    """A folder, everything in which is on the disk to begin with, and what the calls of a command make of it.

    Strictly speaking nothing outlives a power cut but the bytes of files that were synced and the names in folders that
    were. File systems keep more, in any order; the two ends of that are that all names are there, but no bytes that
    were not synced (``strict=False``), and that nothing is there (``strict=True``).
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = _scan(folder)

    def feed(self, calls: Iterator[Call]) -> None:
        """Apply all calls."""
        for call in calls:
            self.apply(call)

    def apply(self, call: Call) -> None:
        """Apply one call."""
        if call.name in WRITES + SYNCS:
            found = re.match(r"\d+<([^>]*)>", call.arguments)
            node = self._find(found[1]) if found else None
            if node is not None:
                self._through_file(call, node)
        elif call.ended:
            paths = [os.path.join(base, path) for base, path in _TEXT.findall(call.arguments)]
            self._through_name(call, paths)

    def _through_file(self, call: Call, node: Node) -> None:
        if call.name in WRITES:
            node.version += call.ended
        elif call.ended:
            node.end_sync()
        else:
            node.begin_sync()

    def _through_name(self, call: Call, paths: Sequence[str]) -> None:
        if call.name.startswith("rename"):
            node = self._find(paths[0])
            self._name(paths[0], None)
            self._name(paths[1], node)
        elif call.name.startswith("link"):
            self._name(paths[1], self._find(paths[0]))
        elif call.name.startswith("symlink"):
            self._name(paths[1], Node(text=paths[0], synced=0))
        elif call.name in ("unlink", "unlinkat", "rmdir"):
            self._name(paths[0], None)
        elif call.name in ("mkdir", "mkdirat"):
            self._name(paths[0], Node(is_folder=True))
        else:
            self._open(paths[0], call)

    def _open(self, path: str, call: Call) -> None:
        node = self._find(path)
        if node is None and (call.name == "creat" or "O_CREAT" in call.arguments):
            self._name(path, Node())
        elif node is not None and (call.name in ("creat", "truncate") or "O_TRUNC" in call.arguments):
            node.version += 1

    def _parts(self, path: str) -> tuple[str, ...] | None:
        place = Path(os.path.normpath(path))
        return place.relative_to(self.folder).parts if place.is_relative_to(self.folder) else None

    def _find(self, path: str) -> Node | None:
        """Return what is at a path as the system gives it, which leads through no link; None if it is elsewhere."""
        parts = self._parts(path)
        node: Node | None = None if parts is None else self.root
        for name in parts or ():
            node = node.entries.get(name) if node is not None else None
        return node

    def _name(self, path: str, node: Node | None) -> None:
        parts = self._parts(path)
        if not parts:
            return
        parent = self._find(os.path.dirname(os.path.normpath(path)))
        assert parent is not None, path
        if node is None:
            parent.entries.pop(parts[-1], None)
        else:
            parent.entries[parts[-1]] = node

    def lost(self, below: str = ".") -> set[str]:
        """Return the paths whose names or bytes would be lost, and with a ``-`` before them those that would be back.

        A folder stands for what is in it.
        """
        found: set[str] = set()
        _compare(self.root, Path(), found)
        inside = os.path.normpath(below)
        return {path for path in found if inside == "." or Path(path.lstrip("-")).is_relative_to(inside)}

    def cut(self, strict: bool, share: float = 0.0, zeros: bool = False) -> None:
        """Make on the disk what a power cut would leave; no process may use the folder.

        Parameters
        ----------
        strict : bool
        share : float, default 0
            What is left of the bytes of a file that were not synced; the first of them.
        zeros : bool, default False
            Whether there are zeros where the others were.
        """
        places = {id(node): path for path, node in _walk(self.root, self.folder, strict=False)}
        aside = self.folder.with_name(f"{self.folder.name}-before")
        self.folder.rename(aside)
        self.folder.mkdir()
        made: dict[int, Path] = {}
        for path, node in _walk(self.root, self.folder, strict):
            before = places.get(id(node))
            source = None if before is None else aside / before.relative_to(self.folder)
            if id(node) in made:
                os.link(made[id(node)], path)
            elif node.is_folder:
                path.mkdir(exist_ok=True)
            elif node.text is not None:
                path.symlink_to(node.text)
            elif source is not None:
                shutil.copy2(source, path)
                if node.is_torn:
                    size = path.stat().st_size
                    os.truncate(path, int(size * share))
                    os.truncate(path, size if zeros else int(size * share))
            else:
                path.touch()
            if not node.is_folder and node.text is None:
                made[id(node)] = path
        shutil.rmtree(aside)


def _scan(place: Path) -> Node:
    nodes: dict[tuple[int, int], Node] = {}

    def look(path: Path) -> Node:
        status = path.lstat()
        node = nodes.setdefault((status.st_dev, status.st_ino), Node(synced=0))
        if path.is_symlink():
            node.text = os.readlink(path)
        elif path.is_dir():
            node.is_folder = True
            node.entries = {inner.name: look(inner) for inner in path.iterdir()}
            node.kept = dict(node.entries)
        return node

    return look(place)


def _walk(node: Node, path: Path, strict: bool) -> Iterator[tuple[Path, Node]]:
    for name, inner in (node.kept if strict else node.entries).items():
        yield path / name, inner
        yield from _walk(inner, path / name, strict)


def _compare(node: Node, path: Path, found: set[str]) -> None:
    for name, inner in node.entries.items():
        if node.kept.get(name) is not inner or inner.is_torn:
            found.add(str(path / name))
        else:
            _compare(inner, path / name, found)
    found.update(f"-{path / name}" for name in node.kept.keys() - node.entries.keys())


def parse(log: Path) -> Iterator[Call]:
    """Yield the calls of a log of strace in order, those of all processes and threads."""
    open_calls: dict[str, tuple[str, str]] = {}
    for line in log.read_text(errors="surrogateescape").splitlines():
        if found := _UNFINISHED.match(line):
            open_calls[found[1]] = found[2], found[3]
            if found[2] in SYNCS:
                yield Call(found[2], found[3], ended=False)
            continue
        resumed = _RESUMED.match(line)
        if resumed and resumed[1] in open_calls:
            name, begin = open_calls.pop(resumed[1])
            line = f"{resumed[1]} {name}({begin}{resumed[2]}"
        found = _LINE.match(line)
        if found is None or int(found[4]) < 0:
            continue
        if found[2] in SYNCS and not resumed:
            yield Call(found[2], found[3], ended=False)
        yield Call(found[2], found[3], ended=True)


def why_not() -> str:
    """Say why system calls cannot be seen here, empty if they can."""
    if shutil.which("strace") is None:
        return "there is no strace command (Debian: strace)"
    tried = subprocess.run(["strace", "-f", "-o", os.devnull, "true"], capture_output=True, text=True, check=False)
    return f"strace: {tried.stderr.strip()}" if tried.returncode else ""


def traced(folder: Path, arguments: Sequence[str], **environment: str) -> tuple[int, list[Call]]:
    """Run Python with some arguments; its exit code and its calls.

    A call that was not answered when the process was killed counts as not made.
    """
    if reason := why_not():
        pytest.skip(reason)
    log = folder / "calls.log"
    watch = ["strace", "-f", "-y", "-s", "0", "--seccomp-bpf", "-e", f"trace={','.join(WRITES + NAMES + SYNCS)}"]
    done = subprocess.run(
        [*watch, "-o", str(log), sys.executable, *arguments], cwd=ROOT, env={**os.environ, **environment},
        capture_output=True, check=False,
    )  # fmt: skip
    return done.returncode, list(parse(log))
