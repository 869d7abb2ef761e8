"""The one error tree of edgetool.

EdgetoolError                  an expected failure: one line, an optional hint, an exit code
├── CheckFailed        exit 1  a limit or a check failed
├── BadInput           exit 2  the user's input cannot be used; nothing is left behind
│   ├── BadModel               a model file that cannot be read, or that a pass cannot treat
│   ├── BadData                data whose shape, dtype, labels or content do not fit
│   ├── BadRecipe              a recipe or an option that cannot be understood
│   └── UnknownName            a name that is in no table; the nearest names are in the hint
└── EnvironmentFailed  exit 3  device, disk, network or runtime; finished work is kept
    ├── RuntimeMissing         a runtime or an optional package is not installed
    ├── DelegateFailed         a delegate's library or device is missing, broken or of another version
    ├── ProcessCrashed         a worker process died (its signal or exit code is in the message)
    └── DiskFull               no space left where the work is written

Anything else that reaches the command line is a bug: exit 70 with a traceback.
"""

import difflib
import errno
from collections.abc import Iterable


class EdgetoolError(Exception):
    """An expected failure: `message` names the thing, its value and the limit; `hint` says what to do."""

    exit_code = 70

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message, hint)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message


class CheckFailed(EdgetoolError):
    """A limit or a check failed: which one, by how much, and the nearest candidate."""

    exit_code = 1


class BadInput(EdgetoolError):
    """The user's input cannot be used; nothing is left behind."""

    exit_code = 2


class BadModel(BadInput):
    """A model that is missing, damaged, of the wrong format, or that a pass cannot treat."""


class BadData(BadInput):
    """Data whose shape, dtype, label range or content does not fit the model or the metric."""


class BadRecipe(BadInput):
    """A recipe, an option or a setting that cannot be understood or honoured."""


class UnknownName(BadInput):
    """A name that is in no table; the hint lists the nearest names, else all of them."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        names = sorted(known)
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
        if near:
            hint = f"did you mean {' or '.join(near)}?"
        else:
            hint = f"known: {', '.join(names)}" if names else f"there is no {kind} at all here"
        super().__init__(f"unknown {kind}: {name!r}", hint)

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.message, self.hint)


class EnvironmentFailed(EdgetoolError):
    """Device, disk, network or runtime failed; finished work is kept and `--resume` goes on."""

    exit_code = 3


class RuntimeMissing(EnvironmentFailed):
    """A runtime or an optional package is not installed; the hint names the extra that brings it."""


class DelegateFailed(EnvironmentFailed):
    """A delegate cannot be used on this machine: its library, driver or device is missing or failed. The CPU works."""


class ProcessCrashed(EnvironmentFailed):
    """A worker process died; the message has its signal or exit code and the last thing it did."""


class DiskFull(EnvironmentFailed):
    """No space left where the work is written."""


def is_disk_full(error: BaseException) -> bool:
    """Whether an error of the system says that the disk, or the quota, is full."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def from_system(error: OSError) -> EnvironmentFailed | None:
    """What a system error means for a user; None where it can only be a bug."""
    if is_disk_full(error):
        return DiskFull("the disk is full", "free some space and run it again; compress goes on with --resume")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG, errno.ELOOP):
        return EnvironmentFailed(f"{error.filename}: {error.strerror}", "choose a place that can be written")
    return None


def _rebuild(kind: type[EdgetoolError], message: str, hint: str | None) -> EdgetoolError:
    error = kind.__new__(kind)
    EdgetoolError.__init__(error, message, hint)
    return error
