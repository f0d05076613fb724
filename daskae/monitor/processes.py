"""Processes below this one."""

import psutil


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
