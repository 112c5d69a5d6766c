"""The text of errors and of refusals without the secrets that a request carried.

Knows requests and errors by their shape, and imports no HTTP library.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from typing import Any, cast
from urllib.parse import unquote, unquote_plus

# Headers of a request that hold no secret, and what an application may hand in with them.
_PUBLIC_HEADERS = frozenset(
    (
        *("accept", "accept-encoding", "accept-language", "connection", "content-length"),
        *("content-type", "host", "if-none-match", "transfer-encoding", "user-agent"),
    )
)

# And what stands in its query, unless an application's HTTP client adds to that.
_PUBLIC_PARAMETERS = frozenset(("settings", "context_filters", "include_additional_data"))


# Shorter ones hide nothing, and would cut holes into other words.
_SHORTEST_SECRET = 4


def without_secrets(said: bytes, request: Any) -> bytes:
    """Return what a service said without what the request's headers and query told.

    It becomes a part of messages, and some servers say back what they were told.
    """
    for told in _secrets_of(request):
        for secret in sorted(told, key=len, reverse=True):
            if len(secret) >= _SHORTEST_SECRET:
                plain = secret.encode("utf-8", "replace")
                # And as it stands in an HTTP library's message, which shows bytes.
                shown = repr(plain)[2:-1], repr(bytearray(plain))[len("bytearray(b'") : -2]
                for form in (plain, *map(str.encode, shown)):
                    said = said.replace(form, b"[secret]")
    return said


def _secrets_of(request: Any) -> Iterator[set[str]]:
    """Give what each header, and each part of the query, tells that may be a secret."""
    for name, value in request.headers.items():
        if name.lower() not in _PUBLIC_HEADERS:
            yield _secrets_in(value)
    for part in request.url.query.decode("ascii", "replace").split("&"):
        name, _, value = part.partition("=")
        if name not in _PUBLIC_PARAMETERS:
            yield {value, unquote(value), unquote_plus(value)}


def _secrets_in(value: str) -> set[str]:
    """Return what of a header's value may be one: all, what follows a scheme, cookies, a password."""
    secrets = {value, value.rpartition(" ")[2]}
    secrets.update(cookie.partition("=")[2].strip() for cookie in value.split(";"))
    scheme, _, coded = value.partition(" ")
    if scheme.lower() == "basic":
        try:
            secrets.add(base64.b64decode(coded).decode().partition(":")[2])
        except ValueError:
            pass  # it is none of ours
    return secrets


def _said(error: BaseException) -> str:
    """Return the text of *error*. Under trio it may be empty, and one that led to it says what is.

    But for a cancellation, which speaks of scopes and not of what took too long.
    """
    each: BaseException | None = error
    while each is not None:
        if isinstance(each, Exception) and (said := str(each)):
            reason = _systems_reason(each)
            return said if reason is None or reason in said else f"{said}: {reason}"
        each = each.__cause__ or each.__context__
    return type(error).__name__


def _systems_reason(error: BaseException) -> str | None:
    """Return the system's words for what led to *error*: of several attempts for the first one's end."""
    reason: str | None = None
    each: BaseException | None = error
    while each is not None:
        if isinstance(each, OSError) and each.errno is not None and each.errno > 0:
            reason = os.strerror(each.errno)
        causes = (
            cast("BaseExceptionGroup[BaseException]", each).exceptions[:1]
            if isinstance(each, BaseExceptionGroup)
            else ()
        )
        each = causes[0] if causes else each.__cause__ or each.__context__
    return reason


def told(error: Exception) -> str:
    """Return the text of *error*, which may show what came, without secrets."""
    said = _said(error)
    try:
        request: Any = cast("Any", error).request
    except (AttributeError, RuntimeError):  # it has none, or was not told
        return said
    return without_secrets(said.encode("utf-8", "replace"), request).decode("utf-8", "replace")


def cause(error: Exception) -> Exception | None:
    """Return *error*, as the cause of one of ours, unless it shows a secret."""
    return None if shows_header(error) or told(error) != _said(error) else error


def shows_header(error: object) -> bool:
    """Whether the text of *error* holds a header's value, which may be a token."""
    # By name: an HTTP client that was handed in has classes of its own.
    return type(error).__name__ == "LocalProtocolError"
