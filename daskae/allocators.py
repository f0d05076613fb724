"""Keep freed memory for the next batch instead of giving it back to the system at once.

Batches of a few megabytes come and go thousands of times. With default settings every allocator on the way (the C
library's, Polars' and Arrow's) returns pages in between, and fetching them again is two thirds of all page faults and
about a tenth of a run's time (measured on generated orders). What is kept is given back after ten seconds of rest, and
it is little: two arenas instead of four a core serve again what any thread has freed (a peak of 450 MiB a worker over
10 million generated orders, with half a second and all arenas 400 MiB, but a third more time in the kernel).
"""

import gc
import os
import sys

ALLOCATOR_ENVIRONMENT = {
    "_RJEM_MALLOC_CONF": "dirty_decay_ms:10000,muzzy_decay_ms:10000,oversize_threshold:0,narenas:2",
    "MIMALLOC_PURGE_DELAY": "10000",
    "MALLOC_MMAP_THRESHOLD_": str(1 << 25),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 26),
    # NumPy's algebra, which is not used here, else starts threads with memory of their own as soon as it is imported.
    "OPENBLAS_NUM_THREADS": "1",
}
"""For processes to be started; the libraries look at it when they are loaded."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


_paused = False
"""Whether this module has switched collections off."""


def start_without_collections() -> None:
    """Let imports pass without Python looking for garbage among what stays, a tenth of their time (measured)."""
    global _paused
    gc.disable()
    _paused = True


def keep_what_is_loaded() -> None:
    """End that: what there is now stays, so that collections pass it by and do not touch the pages that forks share.

    Nothing in a process that did not begin with :func:`start_without_collections`: it is not ours, and what is garbage
    in it would be kept for good.
    """
    global _paused
    if _paused:
        gc.freeze()
        gc.enable()
        _paused = False


def tune_allocators() -> None:
    """Tune this process; to be called before Polars and Arrow are imported. What the user has set stays."""
    for name, value in ALLOCATOR_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if sys.platform == "linux":
        import ctypes

        try:
            library = ctypes.CDLL(None)
            library.mallopt(_M_MMAP_THRESHOLD, 1 << 25)
            library.mallopt(_M_TRIM_THRESHOLD, 1 << 26)
        except (OSError, AttributeError):
            return  # another C library; nothing is lost but speed


def release_memory() -> None:
    """Give memory that was freed back to the system at once, as far as the allocators let themselves be told."""
    gc.collect()
    if (arrow := sys.modules.get("pyarrow")) is not None:
        arrow.default_memory_pool().release_unused()
    if sys.platform == "linux":
        import ctypes

        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
