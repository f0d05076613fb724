"""READ ME FIRST: how order files become tables.

::

    discover ─ plan ─┬─ map, one task a partition ───┬─ unique, a range of keys ─ reduce, a range of customers ─┐
                     │ read · cast · check · exchange│ repeated keys              dedupe · aggregate            │
                     └ rejected rows ────────────────┴──────────── quarantine                                   │
              report ─ publish ─ gate ─ finalize, what needs the whole data set (as_of, RFM scores) ────────────┘

Each arrow is a file on disk and a small record; each stage is a function of those. This module joins the stages and
holds no logic of its own: :mod:`daskae.stages` has the tasks, :mod:`daskae.run` the bookkeeping around them.
"""

from daskae.run.context import RunContext
from daskae.run.gate import check_gate
from daskae.run.inputs import discover
from daskae.run.overlay import correct
from daskae.run.plan import Plan, make_plan
from daskae.run.publish import preflight, publish
from daskae.run.report import write_run_report
from daskae.run.steps import finalize, find_repeated, map_partitions, quarantine, reduce_buckets
from daskae.run.turns import take_turn
from daskae.run.workdir import require_room
from daskae.summary import RunSummary


def plan_run(context: RunContext) -> Plan:
    """Find the inputs, cut them, and check that the work fits; nothing is run.

    Raises
    ------
    InputError, SettingsError, PlanError
    """
    with context.stage("discover"):
        source = correct(discover(context.settings, context.scans), context)
    with context.stage("plan"):
        plan = make_plan(source, context)
        require_room(plan, context)
        return plan


def run_plan(plan: Plan, context: RunContext) -> RunSummary:
    """Run a plan to its end: tables in the target, or a DaskaeError and the target as it was.

    Raises
    ------
    DaskaeError
    """
    sink, turn = preflight(plan, context), take_turn(context)
    with context.engine(plan) as engine:
        mapped = map_partitions(plan, engine, context)
        repeated = find_repeated(plan, mapped, engine, context)
        reduced = reduce_buckets(plan, mapped, repeated, engine, context)
        final = finalize(plan, reduced, engine, context)
        rejected = quarantine(plan, mapped, reduced, engine, context)
    outcome = check_gate(plan, mapped, reduced, repeated, final, context)
    receipt = publish(sink, turn, plan, outcome, context)
    return write_run_report(plan, outcome, rejected, receipt, context)
