import threading
import time
from pathlib import Path

import pytest

from daskae.errors import TargetBusyError
from daskae.load.lock import publisher_lock

from .processes import LockHolder


def test_the_lock_file_is_gone_afterwards(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with publisher_lock(path, 0, "the target"):
        assert path.exists()
    assert list(tmp_path.iterdir()) == []


def test_another_process_is_named_after_a_bounded_wait(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with LockHolder(path) as holder:
        start = time.monotonic()
        with pytest.raises(TargetBusyError, match=rf"the target(.|\n)*held by process {holder.pid}"):
            publisher_lock(path, 0.2, "the target").__enter__()
        assert time.monotonic() - start < 60
    with publisher_lock(path, 0, "the target"):
        pass


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with LockHolder(path) as holder:
        holder.kill()
        assert path.exists()
        with publisher_lock(path, 0, "the target"):
            pass


def test_no_two_threads_are_ever_inside(tmp_path: Path) -> None:
    """Removing the file while others wait for it must not let two of them in."""
    inside = threading.Semaphore(1)
    passed: list[bool] = []

    def enter() -> None:
        for _ in range(20):
            with publisher_lock(tmp_path / "lock", 60, "the target"):
                alone = inside.acquire(blocking=False)
                passed.append(alone)
                if alone:
                    inside.release()

    threads = [threading.Thread(target=enter) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert passed == [True] * 80
