"""Errors that are this library's and an HTTP library's at once; and why a request was ended here.

Knows HTTP libraries by their shape, and no transport.
"""

from __future__ import annotations

import sys
from typing import Any, ClassVar, TypeVar, cast

import httpx

from heksher.exceptions import (
    HeksherError,
    InvalidResponseError,
    ServiceUnreachableError,
    UnexpectedStatusError,
)

E = TypeVar("E", bound=HeksherError)


class HttpUnreachableError(ServiceUnreachableError, httpx.TransportError):
    """No answer came; as an error of httpx."""

    #: The most special class of an HTTP library that this error is one of.
    _theirs: ClassVar[type[Exception]] = httpx.TransportError

    def __init__(self, message: str, request: Any) -> None:
        # Not the other bases' __init__: where two HTTP libraries are mixed they call one another.
        Exception.__init__(self, message)
        self.request = request

    def __reduce__(self) -> Any:
        return _restored, (HttpUnreachableError, self._theirs, self.args), self.__dict__


class HttpInvalidResponseError(InvalidResponseError, httpx.DecodingError):
    """The answer's body is not what the protocol says; as an error of httpx."""

    _theirs: ClassVar[type[Exception]] = httpx.DecodingError

    def __init__(self, message: str, request: Any) -> None:
        Exception.__init__(self, message)
        self.request = request

    def __reduce__(self) -> Any:
        return _restored, (HttpInvalidResponseError, self._theirs, self.args), self.__dict__


class HttpStatusError(UnexpectedStatusError, httpx.HTTPStatusError):
    """The status means no success; as an error of httpx."""

    _theirs: ClassVar[type[Exception]] = httpx.HTTPStatusError

    def __init__(self, error: UnexpectedStatusError, request: Any, response: Any) -> None:
        Exception.__init__(self, str(error))
        self.status = error.status
        self.retry_after = error.retry_after
        self.request = request
        self.response = response

    def __reduce__(self) -> Any:
        return _restored, (HttpStatusError, self._theirs, self.args), self.__dict__


_mixtures: dict[tuple[type[Any], type[Any]], type[Any]] = {}


def mixed(ours: type[E], theirs: type[Exception]) -> type[E]:
    """Return *ours* as a class that ``except theirs`` catches, too."""
    if issubclass(ours, theirs):
        return ours
    known = _mixtures.get((ours, theirs))
    if known is None:
        members = {"__doc__": ours.__doc__, "__module__": ours.__module__, "_theirs": theirs}
        made = type(ours.__name__, (ours, theirs), members)
        known = _mixtures.setdefault((ours, theirs), made)
    return known


def _restored(ours: type[E], theirs: type[Exception], args: tuple[Any, ...]) -> E:
    """Make an error that is copied or unpickled. A mixed class is found by what it was mixed of."""
    kind = mixed(ours, theirs)
    return kind.__new__(kind, *args)


# What a library of httpx's shape has, as far as its errors go.
_SHAPE = {
    "RequestError",
    "TransportError",
    "TimeoutException",
    "DecodingError",
    "HTTPStatusError",
    "Request",
    "Response",
}


def library_of(thing: object) -> Any:
    """Return the library of httpx's shape that *thing* comes from, or None."""
    for kind in type(thing).__mro__:
        library = sys.modules.get(kind.__module__.partition(".")[0])
        if getattr(library, "__dict__", {}).keys() >= _SHAPE:
            return library
    return None


def kind_of(error: Exception, library: Any) -> type[Exception]:
    """Return which of the library's errors of requests *error* is."""
    if isinstance(error, TooSlow):
        return cast("type[Exception]", library.TimeoutException)
    for kind in type(error).__mro__:
        # Not an application's subclass, which may need more than its bases do.
        is_theirs = getattr(library, kind.__name__, None) is kind
        if is_theirs and issubclass(kind, library.RequestError):
            return kind
    return cast("type[Exception]", library.TransportError)


class Ended(Exception):
    """A bound was reached, or the client was closed; the text says which."""


class TooSlow(Ended):
    """The bound in time was reached."""
