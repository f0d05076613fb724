"""What holds for every test: a clean environment, reproducible examples, and long tests only where asked for."""

import gc
import os
from collections.abc import Iterator

import hypothesis
import pytest

from daskae.allocators import ALLOCATOR_ENVIRONMENT
from daskae.engine.forks import METHOD, prepare_workers
from daskae.faults import NOTES_VARIABLE

pytest_plugins = ["tests.fault_log.plugin"]

# The default run is the same run everywhere; ``--hypothesis-profile=explore`` looks at other and more examples.
hypothesis.settings.register_profile("daskae", deadline=None, derandomize=True, database=None, max_examples=30)
hypothesis.settings.register_profile("explore", deadline=None, max_examples=300, database=None)
hypothesis.settings.load_profile("daskae")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the tests marked slow too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out long tests, unless ``--slow`` or a marker expression says what to run."""
    if config.option.slow or config.option.markexpr:
        return
    slow = [item for item in items if item.get_closest_marker("slow")]
    if slow:
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if item not in slow]


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Let no garbage collection, of which each run makes one, look at modules and tests: they stay to the end."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _no_settings_from_outside() -> Iterator[None]:
    """Keep the developer's own ``DASKAE_…`` variables out, and those that a run sets from the next test."""
    before = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("DASKAE_")}
    for name in ALLOCATOR_ENVIRONMENT:  # Dask's nanny leaves what it sets for workers in this process, too
        os.environ.pop(name, None)
    for name in {"DASKAE_TEST_DATA", NOTES_VARIABLE} & before.keys():
        os.environ[name] = before[name]
    yield
    for name in list(os.environ):
        if name.startswith("DASKAE_"):
            del os.environ[name]
    os.environ.update(before)


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    """The address of a cluster of two workers that is not ours to start and stop."""
    import dask
    import distributed

    prepare_workers()
    distributed.utils._forkserver_preload_set = True
    with (
        dask.config.set({"distributed.worker.multiprocessing-method": METHOD}),
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            worker_dashboard_address=None,
            scheduler_kwargs={"dashboard": False},
        ) as cluster,
    ):
        yield cluster.scheduler_address
