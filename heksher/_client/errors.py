"""How errors are kept after they were handled. Knows nothing of clients."""

from __future__ import annotations

from typing import TypeVar

ErrorT = TypeVar("ErrorT", bound=BaseException)


def without_frames(error: ErrorT) -> ErrorT:
    """Return *error* without tracebacks, so that keeping it keeps nothing else alive.

    A traceback holds the frames that the error went through, and these hold everything that they worked
    on: settings, answers, the client. The same goes for the tracebacks of its causes, and of its context,
    the errors that were being handled when it was raised. The causes stay, the context goes.
    """
    each: BaseException | None = error
    while each is not None and (each.__traceback__ or each.__context__):
        # object.__setattr__, because an application's class may refuse assignment.
        object.__setattr__(each, "__context__", None)
        each = each.with_traceback(None).__cause__
    return error
