"""Processes below this one, and what they are doing."""

import psutil


def is_stopped(pid: int | None) -> bool:
    """Tell whether a process has been stopped by a signal and not let go on."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_STOPPED if pid is not None else False
    except psutil.Error:
        return False


def kill_descendants() -> None:
    """Kill every process below this one, at once and without asking."""
    try:
        family = psutil.Process().children(recursive=True)
    except psutil.Error:
        return
    for process in family:
        try:
            process.kill()
        except psutil.Error:
            continue  # gone already, or not ours any more
