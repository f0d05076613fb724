"""What the profile ``thorough`` adds to a map task: a profile of every column, and counts for quality scores."""

import json
import secrets
from pathlib import Path
from typing import Any

from daskae.batch import Batch
from daskae.hashing import file_checksum
from daskae.partition import ExchangeFile
from daskae.profile.scan import Reading
from daskae.profile.state import TableState
from daskae.schema import Contract
from daskae.stages.profile import Gathered
from daskae.validate.check import Checked
from daskae.validate.quality import Quality

ROLE = "thorough"


class Thorough:
    """Collects a partition's profile and quality."""

    role = ROLE

    def __init__(self, contract: Contract) -> None:
        self._gathered = Gathered(Reading(contract.scale, contract.null_values, contract.timezone))
        self._quality = Quality()

    def add(self, batch: Batch, checked: Checked) -> None:
        """Take one checked batch."""
        self._gathered.add(batch)
        if checked.quality is not None:
            self._quality = self._quality.merge(checked.quality)

    def write(self, folder: Path) -> ExchangeFile:
        """Write both as JSON and describe the file."""
        state = self._gathered.finish()
        path = folder / f"{ROLE}-{secrets.token_hex(8)}.json"
        path.write_text(json.dumps({"profile": state.to_json(), "quality": self._quality.to_json()}))
        nbytes, checksum = file_checksum(path)
        return ExchangeFile(path.name, state.rows, nbytes, checksum)


def read_thorough(path: Path) -> tuple[TableState, Quality]:
    """Read what a map task wrote."""
    data: dict[str, Any] = json.loads(path.read_text())
    return TableState.from_json(data["profile"]), Quality.from_json(data["quality"])
