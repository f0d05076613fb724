import re

import pytest

from daskae.events import Status
from daskae.report.summary_text import bar, render_summary
from daskae.summary import RowCounts, RuleOutcome, RunSummary, StepOutcome, TableOutcome, ValidationSummary

from .scenes import make_summary

ESCAPES = re.compile(r"\x1b\[[0-9;]*m")


def plain(summary: RunSummary, width: int = 100) -> str:
    return render_summary(summary, color=False, width=width)


def test_a_run_that_went_well() -> None:
    assert plain(make_summary()) == (
        """\
● Done (11.6 s)   run 20260131-120000-3f9a

Rows
  read      541,909           305 files, 44.8 MiB
  accepted  397,884  73.42 %
  rejected  144,025  26.58 %

Rejected because of
  customer_id is missing  135,080  93.79 %  ████████████████████████
  quantity is positive      8,905   6.18 %  █▋
  order_date is readable       38   0.03 %  ▏
  price                         2  <0.01 %  ▏

Rules  2 of 3 passed, 1 warning
  ✗ orders are fresh  warning: the newest order is 12 days old, 7 allowed

Figures as of 2011-12-09
  customers                    4,338
  orders                      18,532
  revenue               8,911,407.90
  average order value         480.87
  average customer LTV      2,054.27
  churn rate                  1.48 %

Tables
  customer_metrics  4,338 rows  metrics.db: customer_metrics
  cohort_metrics       91 rows  metrics.db: cohort_metrics
  kpis                  7 rows  metrics.db: kpis

Time
  map      8.10 s  69.83 %  ████████████████████████
  reduce   2.20 s  18.97 %  ██████▌
  publish  1.10 s   9.48 %  ███▎
  total    11.6 s

  peak memory  512.0 MiB in one process
  partitions   12 of 48 reused
  engine       dask, 4 workers with 2.0 GiB each
  quarantine   /data/shop/runs/20260131-120000-3f9a/quarantine
  report       /data/shop/runs/20260131-120000-3f9a/report.html
  run folder   /data/shop/runs/20260131-120000-3f9a
"""
    )


def test_nothing_rejected_is_said_and_has_no_table() -> None:
    text = plain(make_summary(rows=RowCounts(10, 10, 0, {"a": 0}), quarantine=""))
    assert "rejected   0    0 %" in text
    assert "no row was rejected" in text
    assert "Rejected because of" not in text
    assert "quarantine" not in text


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"already_published": True}, "Done: the target already holds this very result (11.6 s)"),
        ({"status": "done_with_rejects"}, "Done, with more rejected rows than allowed (11.6 s)"),
        ({"status": "refused", "tables": {}}, "Refused to publish: the target is as it was (11.6 s)"),
        ({"status": "failed", "tables": {}}, "Failed: nothing was published (11.6 s)"),
        ({"status": "failed"}, "Failed: the tables were published before (11.6 s)"),
        ({"status": "interrupted"}, "Interrupted: the same command goes on where this run stopped (11.6 s)"),
        ({"status": "failed", "tables": {}, "seconds": {}}, "Failed: nothing was published   run "),
    ],
)
def test_the_first_line_says_how_it_ended(changes: dict[str, object], words: str) -> None:
    assert words in plain(make_summary(**changes)).splitlines()[0]


def test_a_reason_is_wrapped_and_keeps_its_lines() -> None:
    message = (
        "rule max_rejected refuses the publish\n  got:     26.58 %\n  allowed: 5 % of all the rows that were read in"
    )
    text = plain(make_summary(status="refused", message=message), width=40)
    assert text.splitlines()[1:5] == [
        "  rule max_rejected refuses the publish",
        "    got:     26.58 %",
        "    allowed: 5 % of all the rows that",
        "  were read in",
    ]


@pytest.mark.parametrize("status", ["done", "done_with_rejects", "refused", "failed", "interrupted", "running"])
def test_colours_change_no_word(status: Status) -> None:
    summary = make_summary(status=status, message="why")
    colored = render_summary(summary, color=True, width=100)
    assert "\x1b[" in colored
    assert ESCAPES.sub("", colored) == plain(summary)


def test_a_run_that_read_nothing() -> None:
    summary = RunSummary("r", "failed", RowCounts(0, 0, 0, {}), {}, {}, {}, 0, 0, 0, "runs/r", "", "", "inline")
    assert plain(summary) == (
        "● Failed: nothing was published   run r\n\n"
        "Rows\n  read      0\n  accepted  0  –\n  rejected  0  –\n\n"
        "  engine      inline\n  run folder  runs/r\n"
    )


@pytest.mark.parametrize("width", [60, 70, 80, 120, 200])
def test_lines_fit_and_paths_are_whole(width: int) -> None:
    folder = "/a/very/long/path" * 10
    lines = plain(make_summary(run_dir=folder), width).splitlines()
    assert all(len(line) <= width for line in lines if "/" not in line)
    assert any(line.endswith(folder) for line in lines)


def test_ascii_terminals_get_ascii() -> None:
    text = render_summary(make_summary(kpis={"rate": None}), color=False, width=90, ascii_only=True)
    assert text.isascii()
    assert "customer_id is missing  135,080  93.79 %  ########################" in text


def test_names_cannot_move_the_cursor() -> None:
    text = plain(
        make_summary(
            rows=RowCounts(1, 0, 1, {"evil\x1b[2J\rrule": 1}),
            tables={"t": TableOutcome(1, "db\x07")},
            message="line\u2028break [bold]",
        )
    )
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f\u2028]", text)
    assert "evil\\x1b[2J\\rrule" in text
    assert "[bold]" in text


def test_a_bar_shows_what_is_not_zero() -> None:
    assert bar(0, 10) == ""
    assert bar(1e-9, 10) == "▏"
    assert bar(0.5, 10) == "█" * 5
    assert bar(1, 10) == "█" * 10
    assert bar(7, 10) == "█" * 10
    assert bar(0.5, 0) == ""


def test_steps_tell_what_became_of_their_rows() -> None:
    steps = (
        StepOutcome("trim_channel", "before_rules", 12_000, 12_000, partitions=4, seconds=0.25),
        StepOutcome("no_tests", "after_rules", 9_000, 8_990, 3, 4, 1, 1.5, "ValueError: odd", "log"),
    )
    text = plain(make_summary(steps=steps))
    assert (
        """
Steps
  trim_channel  12,000 in                                               0.25 s
  no_tests       9,000 in  10 rejected  failed on 3  skipped in 1 of 4  1.50 s
"""
        in text
    )
    assert "Steps" not in plain(make_summary())


def test_a_thorough_run_says_where_its_profile_is() -> None:
    text = plain(make_summary(quality={"rows": {}}))
    assert "  profile      /data/shop/runs/20260131-120000-3f9a/profile.json\n" in text
    assert "profile.json" not in plain(make_summary())


def test_rules_tell_where_they_are_broken_first() -> None:
    sample = {"file": "a\x1b.csv", "row_number": 12_345, "value": "x" * 300}
    rules = (
        RuleOutcome("broken", "error", False, 10, 1, "1 of 10", status="failed", samples=(sample,)),
        RuleOutcome("inside", "error", False, 10, 0, "the rule itself failed", status="error"),
        RuleOutcome("noted", "info", False, 10, 3, "3 of 10", status="failed"),
    )
    text = plain(make_summary(rules=rules, skipped_rules=("later",)))
    assert "Rules  0 of 3 passed, 2 errors, 1 info, 1 skipped" in text
    assert "first in a\\x1b.csv row 12,345: xxx" in text
    assert all(len(line) <= 100 for line in text.splitlines())


def test_all_rules_together() -> None:
    kinds = [("error", "passed"), ("error", "error"), ("warning", "failed"), ("info", "skipped")]
    outcomes = [
        RuleOutcome(str(i), severity, status in ("passed", "skipped"), 1, 0, "", status=status)
        for i, (severity, status) in enumerate(kinds)
    ]
    found = ValidationSummary.of(outcomes, ["left"])
    assert (found.executed, found.passed, found.failed, found.errors, found.warnings) == (3, 1, 2, 1, 1)
    assert found.pass_rate == round(1 / 3, 6)
    assert (found.error_rules, found.warning_rules, found.skipped_rules) == (("1",), ("2",), ("left", "3"))
    assert ValidationSummary.of([]).pass_rate == 1.0


def test_what_was_mended_is_said_briefly() -> None:
    mended = (*(f"worker {i} is lost: \x1b[31m" for i in range(6)), "x" * 300)
    text = plain(make_summary(mended=mended))
    assert "Mended on the way\n  worker 0 is lost: \\x1b[31m\n" in text
    assert "  and 2 more, see events.jsonl\n" in text
    assert "xxx" not in text
    assert "Mended" not in plain(make_summary())
