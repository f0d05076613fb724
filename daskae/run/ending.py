"""Words for a run that did not end well."""

import traceback

from daskae.errors import DaskaeError
from daskae.masking import mask_secrets


def describe_failure(error: BaseException, verbose: int) -> str:
    """Return what a person should read: the error in our form, and where the traceback is; all of it at ``-vv``."""
    if isinstance(error, DaskaeError):
        text = f"error: {error}"
    else:
        text = f"error: {type(error).__name__}: {error}"
        how = "report it with what follows" if verbose >= 2 else "run again with -vv and report it"
        text += f"\n  next:    this is a fault in daskae; {how}"
    summary = getattr(error, "summary", None)
    if summary is not None:
        text += f"\n  run:     {summary.run_dir}"
        if summary.quarantine:
            text += f"\n  rejects: {summary.quarantine}"
    if verbose >= 2:
        text += "\n" + "".join(traceback.format_exception(error))
    return mask_secrets(text)
