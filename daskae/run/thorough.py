"""What the profile ``thorough`` says of the whole data set: ``profile.json`` in the run folder, and quality scores."""

import json
from typing import Any

from daskae.durable import replacing
from daskae.run.context import RunContext
from daskae.run.plan import Plan
from daskae.run.privacy import profile_without_personal
from daskae.run.steps import Mapped
from daskae.summary import PROFILE


def quality_scores(plan: Plan, mapped: Mapped, context: RunContext) -> dict[str, Any]:
    """Write the profile and return the scores of columns and rows; nothing where they were not asked for."""
    if not plan.spec.thorough:
        return {}
    from daskae.profile.finish import finish_table  # most runs need none of it
    from daskae.profile.state import TableState
    from daskae.stages.thorough import ROLE, read_thorough
    from daskae.validate.quality import Quality

    state, counts = TableState(), Quality()
    for _, path in mapped.layout.paths(ROLE):
        part_state, part_counts = read_thorough(path)
        state, counts = state.merge(part_state), counts.merge(part_counts)
    profile = profile_without_personal(finish_table(state), plan.spec.personal)
    with replacing(context.run_dir / PROFILE) as temporary:
        temporary.write_text(json.dumps(profile, indent=1, default=str))
    return counts.scores(sum(rule.is_row for rule in plan.spec.rules))
