"""Errors that belong to this library and to an HTTP library at once, and why a request was ended here.

Knows HTTP libraries by their shape. Knows no transport and does no I/O.
"""

from __future__ import annotations

import sys
from typing import Any, TypeVar, cast

import httpx

from heksher.exceptions import (
    HeksherError,
    InvalidResponseError,
    ServiceUnreachableError,
    UnexpectedStatusError,
)

E = TypeVar("E", bound=HeksherError)

# Whatever HTTP library is in use, an error of this library is also one of these errors of httpx.
_HTTPX_CLASSES: dict[type[Any], type[Exception]] = {
    ServiceUnreachableError: httpx.TransportError,
    InvalidResponseError: httpx.DecodingError,
    UnexpectedStatusError: httpx.HTTPStatusError,
}

# The names by which a library of httpx's shape is recognised: what is used here of its module.
_LIBRARY_NAMES = {
    "RequestError",
    "TransportError",
    "TimeoutException",
    "DecodingError",
    "HTTPStatusError",
    "Request",
    "Response",
}


class RequestEnded(Exception):
    """The request was ended here: a bound was reached, or the client was closed. The text says which."""


class RequestTooSlow(RequestEnded):
    """The request took longer than it may."""


def client_closed() -> RequestEnded:
    """Return the error for a request that was ended by closing the client, or came after that."""
    return RequestEnded("the client is closed")


def as_http_error(error: E, theirs: type[Exception], **attributes: Any) -> E:
    """Return *error* as an error that ``except theirs`` catches as well.

    Args:
        error: an error of this library.
        theirs: a class of errors of an HTTP library.
        attributes: what users of the HTTP library read from it: ``request`` and ``response``.
    """
    both = _restored(type(error), theirs, error.args)
    for name, value in {**vars(error), **attributes}.items():
        setattr(both, name, value)
    return both


_combined_classes: dict[tuple[type[Any], type[Any]], type[Any]] = {}


def _combined(ours: type[E], theirs: type[Exception]) -> type[E]:
    """Return the class for errors that are both."""
    made = _combined_classes.get((ours, theirs))
    if made is None:

        def reduce(error: Any) -> Any:
            # A class that is made while the program runs cannot be found by its name.
            return _restored, (ours, theirs, error.args), vars(error)

        always = _HTTPX_CLASSES[ours]
        bases = (ours, theirs) if issubclass(theirs, always) else (ours, always, theirs)
        members = {"__doc__": ours.__doc__, "__module__": ours.__module__, "__reduce__": reduce}
        made = _combined_classes.setdefault((ours, theirs), type(ours.__name__, bases, members))
    return made


def _restored(ours: type[E], theirs: type[Exception], args: tuple[Any, ...]) -> E:
    """Make an error of both classes. Also called when one is copied or unpickled."""
    kind = _combined(ours, theirs)
    # Without __init__: those of the bases have different signatures, and where the classes of two HTTP
    # libraries are combined they would call one another.
    return kind.__new__(kind, *args)


def library_of(thing: object) -> Any:
    """Return the HTTP library of httpx's shape that made *thing*, or None."""
    for kind in type(thing).__mro__:
        library = sys.modules.get(kind.__module__.partition(".")[0])
        if getattr(library, "__dict__", {}).keys() >= _LIBRARY_NAMES:
            return library
    return None


def request_error_class(error: BaseException, library: Any) -> type[Exception]:
    """Return the most specific class of *library*'s request errors that describes *error*."""
    if isinstance(error, RequestTooSlow):
        return cast("type[Exception]", library.TimeoutException)
    for kind in type(error).__mro__:
        # A subclass of the application's own is passed over: it may need more than its bases do.
        is_theirs = getattr(library, kind.__name__, None) is kind
        if is_theirs and issubclass(kind, library.RequestError):
            return kind
    return cast("type[Exception]", library.TransportError)
