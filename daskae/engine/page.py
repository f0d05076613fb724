"""A page about the run on Dask's dashboard: parts done, rows a second, memory against what was projected, rejects.

The driver sends a small snapshot about once a second as a Dask event; the page, which the scheduler serves, shows the
last ones. Nothing is asked of the workers.
"""

import getpass
import os
import socket
from html import escape
from typing import Any
from urllib.parse import urlsplit

from daskae.monitor.lines import whole_seconds
from daskae.units import format_bytes, format_count

TOPIC, PATH = "daskae-progress", "/daskae"
_PERIOD_MILLISECONDS = 1000
_LOCAL = ("127.0.0.1", "localhost", "::1")


def add_page(dask_scheduler: Any) -> None:
    """Add the page to a scheduler's dashboard, once; runs on the scheduler.

    Raises
    ------
    ImportError
        If bokeh is not installed there.
    """
    from distributed.dashboard.core import BokehApplication
    from tornado.ioloop import IOLoop

    application = dask_scheduler.http_application
    if any(PATH in getattr(other, "app_paths", ()) for other in application.applications):
        return
    page = BokehApplication({PATH: _document}, dask_scheduler)
    application.add_application(page)
    page.initialize(IOLoop.current())
    page.start()


def _document(scheduler: Any, _: Any, document: Any) -> None:
    """Fill a bokeh document, and keep it up to date while somebody looks."""
    from bokeh.layouts import column
    from bokeh.models import ColumnDataSource, Div
    from bokeh.plotting import figure

    facts = Div(text="", sizing_mode="stretch_width")
    source = ColumnDataSource({"seconds": [], "rate": [], "peak": [], "projected": []})
    rate = figure(title="rows a second", height=220, sizing_mode="stretch_width")
    rate.line("seconds", "rate", source=source)
    memory = figure(title="memory of a task, MiB: measured and projected", height=220, sizing_mode="stretch_width")
    memory.line("seconds", "peak", source=source, legend_label="highest measured")
    memory.line("seconds", "projected", source=source, line_dash="dashed", color="gray", legend_label="projected")

    def refresh() -> None:
        snapshots = [message for _, message in scheduler.get_events(TOPIC)]
        facts.text = describe_snapshot(snapshots[-1] if snapshots else None)
        source.data = {
            "seconds": [item["elapsed"] for item in snapshots],
            "rate": [item["rate"] for item in snapshots],
            "peak": [item["peak_bytes"] / 2**20 for item in snapshots],
            "projected": [item["projected_bytes"] / 2**20 for item in snapshots],
        }

    refresh()
    document.title = "daskae"
    document.add_root(column(facts, rate, memory, sizing_mode="stretch_width"))
    document.add_periodic_callback(refresh, _PERIOD_MILLISECONDS)


def describe_snapshot(snapshot: dict[str, Any] | None) -> str:
    """Return a snapshot as a small HTML table."""
    if snapshot is None:
        return "<p>no run has reported yet</p>"
    rows = {
        "run": snapshot["run_id"],
        "stage": snapshot["stage"],
        "tasks": f"{format_count(snapshot['done'])} of {format_count(snapshot['tasks'])} done, "
        f"{format_count(snapshot['reused'])} reused",
        "rows": f"{format_count(snapshot['rows'])}, {format_count(round(snapshot['rate']))} a second",
        "rejected rows": format_count(snapshot["rejected"]),
        "memory of a task": f"{format_bytes(snapshot['peak_bytes'])} measured at most, "
        f"{format_bytes(snapshot['projected_bytes'])} projected",
        "time": whole_seconds(snapshot["elapsed"]),
    }
    cells = (
        f"<tr><th align='left'>{escape(name)}</th><td>{escape(str(text))}</td></tr>" for name, text in rows.items()
    )
    return f"<table>{''.join(cells)}</table>"


def describe_way(link: str, address: str, environment: dict[str, str] | None = None) -> str:
    """Say where the page is and, where a browser is likely elsewhere, how to get there.

    Parameters
    ----------
    link : str
        Dask's link to its dashboard.
    address : str
        Where the scheduler listens.
    environment : dict, optional
        Tells whether this is a login by SSH or a batch job; that of the process unless given.
    """
    variables = os.environ if environment is None else environment
    port = urlsplit(link).port
    host = urlsplit(address).hostname or ""
    text = f"dashboard: http://127.0.0.1:{port}{PATH}"
    if host in _LOCAL or host == urlsplit(link).hostname:
        if not ({"SSH_CONNECTION", "SLURM_JOB_ID"} & set(variables)):
            return text
        host = socket.gethostname()
    return f"{text}, from elsewhere after: ssh -L {port}:127.0.0.1:{port} {getpass.getuser()}@{host}"
