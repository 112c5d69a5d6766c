"""How errors are kept after they were handled. Knows nothing of clients."""

from __future__ import annotations

from typing import TypeVar

ErrorT = TypeVar("ErrorT", bound=BaseException)


def without_frames(error: ErrorT) -> ErrorT:
    """Return *error* without what it must not keep alive, so that it can be kept itself.

    A traceback holds the frames that the error went through, and these hold everything that they worked
    on: settings, answers, the client. So do the tracebacks of its causes, and of the errors that were
    being handled when it was raised (its context), which it does not need.
    """
    each: BaseException | None = error
    while each is not None and (each.__traceback__ or each.__context__):
        # object.__setattr__, because an application's class may refuse assignment.
        object.__setattr__(each, "__context__", None)
        each = each.with_traceback(None).__cause__
    return error
