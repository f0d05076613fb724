"""Print the summary of fault logs: ``python -m tests.fault_log FILE...``; logs are put together by ``cat``."""

import sys
from pathlib import Path

from tests.fault_log.document import NoFaultLogError, read_log, summarize


def main(paths: list[str]) -> None:
    missing = [path for path in paths if not Path(path).is_file()]
    if missing or not paths:
        raise SystemExit(f"no such file: {missing[0]}" if missing else str(__doc__))
    try:
        lines = [line for path in paths for line in read_log(Path(path))]
    except NoFaultLogError as error:
        raise SystemExit(str(error)) from error
    print("\n".join(summarize(lines)))


if __name__ == "__main__":
    main(sys.argv[1:])
