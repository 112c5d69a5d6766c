"""Texts of errors and of refusals without the secrets that a request carried.

Knows requests and errors by their shape, and imports no HTTP library.
"""

from __future__ import annotations

import base64
import os
import re
import socket
import ssl
from collections.abc import Iterator
from typing import Any, cast
from urllib.parse import unquote, unquote_plus

# The request headers whose values are not secret. The values of all others are redacted.
_PUBLIC_HEADERS = frozenset(
    (
        *("accept", "accept-encoding", "accept-language", "connection", "content-length"),
        *("content-type", "host", "if-none-match", "transfer-encoding", "user-agent"),
    )
)

# The query parameters that this library sends. The values of all others are redacted: an application's
# HTTP client may add some.
_PUBLIC_PARAMETERS = frozenset(("settings", "context_filters", "include_additional_data"))

# These errors have numbers of their own in `OSError.errno`. What the operating system calls "Operation not
# permitted" is any error of TLS.
_OTHER_NUMBERS = ssl.SSLError, socket.gaierror, socket.herror

# Where an error of TLS was raised in CPython's source, which tells users nothing.
_SOURCE_POSITION = re.compile(r"_ssl\.c:\d+: | \(_ssl\.c:\d+\)")

# Secrets of fewer characters are not redacted: that would hide nothing, and cut holes into other words.
_MIN_SECRET_LENGTH = 4


def redact(text: bytes, request: Any) -> bytes:
    """Return *text* without the secrets in the headers and the query of *request*.

    The text becomes a part of messages, and some servers repeat what they were sent.
    """
    for secrets in _secrets_of(request):
        for secret in sorted(secrets, key=len, reverse=True):
            if len(secret) >= _MIN_SECRET_LENGTH:
                plain = secret.encode("utf-8", "replace")
                # Messages of HTTP libraries contain the repr() of bytes.
                shown = repr(plain)[2:-1], repr(bytearray(plain))[len("bytearray(b'") : -2]
                for form in (plain, *map(str.encode, shown)):
                    text = text.replace(form, b"[secret]")
    return text


def _secrets_of(request: Any) -> Iterator[set[str]]:
    """Yield the possible secrets in each header and in each parameter of the query."""
    for name, value in request.headers.items():
        if name.lower() not in _PUBLIC_HEADERS:
            yield _secrets_in_header(value)
    for part in request.url.query.decode("ascii", "replace").split("&"):
        name, _, value = part.partition("=")
        if name not in _PUBLIC_PARAMETERS:
            yield {value, unquote(value), unquote_plus(value)}


def _secrets_in_header(value: str) -> set[str]:
    """Return the whole value, what follows its scheme, the values of cookies, and a password."""
    secrets = {value, value.rpartition(" ")[2]}
    secrets.update(cookie.partition("=")[2].strip() for cookie in value.split(";"))
    scheme, _, coded = value.partition(" ")
    if scheme.lower() == "basic":
        try:
            secrets.add(base64.b64decode(coded).decode().partition(":")[2])
        except ValueError:
            pass  # not the user name and password of basic authentication
    return secrets


def redacted_text(error: BaseException) -> str:
    """Return the text of *error*, which may quote what the service sent, without secrets."""
    text = _text_of(error)
    try:
        request: Any = cast("Any", error).request
    except (AttributeError, RuntimeError):  # it has no request, or none was set
        return text
    return redact(text.encode("utf-8", "replace"), request).decode("utf-8", "replace")


def safe_cause(error: BaseException) -> BaseException | None:
    """Return *error* if it can be the ``__cause__`` of another error: if it shows no secret."""
    return None if shows_header(error) or redacted_text(error) != _text_of(error) else error


def shows_header(error: object) -> bool:
    """Whether the text of *error* contains the value of a header, which may be a token."""
    # By name, because an HTTP client that was handed in has classes of its own.
    return type(error).__name__ == "LocalProtocolError"


def _text_of(error: BaseException) -> str:
    """Return the text of *error*, or of the first error with a text among those that led to it.

    Under trio the text of an HTTP library's error may be empty. Cancellations are passed over, since
    they are about scopes and not about what took too long; so are waits of TLS, which are no failures.
    """
    for each in _chain(error):
        is_failure = isinstance(each, Exception) and not isinstance(
            each, (ssl.SSLWantReadError, ssl.SSLWantWriteError)
        )
        if is_failure and (text := _SOURCE_POSITION.sub("", str(each))):
            reason = _system_reason(each)
            return text if reason is None or reason in text else f"{text}: {reason}"
    return type(error).__name__


def _system_reason(error: BaseException) -> str | None:
    """Return the operating system's words for the error that led to *error*."""
    reason: str | None = None
    for each in _chain(error):
        if isinstance(each, OSError) and not isinstance(each, _OTHER_NUMBERS):
            number = each.errno or 0
            reason = os.strerror(number) if number > 0 else reason
    return reason


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield *error*, what led to it, what led to that, and so on.

    Where several attempts failed, such as one for each address of a host, the first one counts.
    """
    each: BaseException | None = error
    while each is not None:
        yield each
        if isinstance(each, BaseExceptionGroup):
            each = cast("BaseExceptionGroup[BaseException]", each).exceptions[0]
        else:
            each = each.__cause__ or each.__context__
