"""What is kept and shown of a server's words, without the secrets that a request carried.

A server may repeat what it was sent: because it is hostile, or to help with debugging. Three kinds of
its words are kept, and each is treated in its own way:

- Refusals and errors become texts that people read. Every value that may be a secret is replaced in
  them (`redact`). If a word is taken for a secret by mistake, one text is harder to read.
- A successful answer becomes rules, which decide what `get()` returns. Nothing in it is replaced. If it
  repeats a secret, it is not used at all (`repeated_secret`). A mistake would stop all updates here, so
  only what is a secret by its name and by its look counts.
- The errors of an HTTP library hold the request with its headers. It is taken off (`safe_cause`).

Knows requests and errors by their shape, and imports no HTTP library.
"""

from __future__ import annotations

import base64
import html
import json
import os
import re
import socket
import ssl
from collections.abc import Iterable, Iterator
from typing import Any, cast
from urllib.parse import quote, unquote, unquote_plus

# The request headers whose values are not secret. The values of all others are redacted.
_PUBLIC_HEADERS = frozenset(
    (
        *("accept", "accept-encoding", "accept-language", "connection", "content-length"),
        *("content-type", "host", "if-none-match", "transfer-encoding", "user-agent"),
    )
)

# The query parameters that this library sends. The values of all others are redacted: an application's
# HTTP client may add some.
_PUBLIC_PARAMETERS = frozenset(("settings", "context_filters", "include_additional_data", "since"))

# These errors have numbers of their own in `OSError.errno`. What the operating system calls "Operation not
# permitted" is any error of TLS.
_OTHER_NUMBERS = ssl.SSLError, socket.gaierror, socket.herror

# Where an error of TLS was raised in CPython's source, which tells users nothing.
_SOURCE_POSITION = re.compile(r"_ssl\.c:\d+: | \(_ssl\.c:\d+\)")

# Secrets of fewer characters are not redacted: that would hide nothing, and cut holes into other words.
_MIN_SECRET_LENGTH = 4

# In a successful answer, only these count as secrets: values of headers, cookies and parameters that are
# called so, of at least this many characters, and neither lower-case words nor numbers, as values of
# settings and conditions may be: production, eu-west-1, 2026.12. Words that are also part of others, such
# as author, keyboard, inside and design, have to end or to stand alone.
_SECRET_NAME = re.compile(
    "cookie|credential|jwt|passw|secret|sessid|session|signature|token|auth(?!or(?!i[sz]))"
    "|(key|sess|sid)s?(?![a-z])|(?<![a-z])(sig|sign|signed)(?![a-z])",
    re.I,
)
_MIN_CERTAIN_LENGTH = 8
_MAX_WORD_LENGTH = 24
_is_word = re.compile("[a-z]*|[0-9]*|[a-z]*[0-9]*(?:[._-][a-z]*[0-9]*)+").fullmatch

# Search this many bytes of an answer in one call. No other thread runs during a call, which takes up to
# twenty milliseconds if the server chose the bytes to that end.
_PIECE = 1024 * 1024
# The bytes that a character may take in JSON, as an escape.
_LONGEST_ESCAPE = 6

#: The key of the headers for proxies among a request's extensions. They are not among its headers.
PROXY_HEADERS = "heksher_proxy_headers"


def redact(text: bytes, request: Any) -> bytes:
    """Return *text* without the possible secrets in the headers and the query of *request*."""
    for _, secrets in (*_secrets_in_headers(request), *_secrets_in_query(request)):
        for secret in sorted(secrets, key=len, reverse=True):
            if len(secret) >= _MIN_SECRET_LENGTH:
                for form in _forms(secret):
                    text = text.replace(form, b"[secret]")
    return text


def repeated_secret(body: bytes, request: Any) -> str | None:
    """Return the name of a secret in *request* that a successful answer repeats, or None.

    Found is what JSON makes of *body* when it is decoded: escapes hide nothing.
    """
    return _repeated(body, (*_secrets_in_headers(request), *_secrets_in_query(request)))


def is_safe_location(location: str, request: Any) -> bool:
    """Whether a redirect to *location* can be followed: if it repeats no header of *request*.

    Parameters may be in it, since services that are called with a key in the query keep it there.
    """
    return _repeated(location.encode("utf-8", "replace"), _secrets_in_headers(request)) is None


def _repeated(body: bytes, found: Iterable[tuple[str, set[str]]]) -> str | None:
    certain = [
        (name, form)
        for name, secrets in found
        if _SECRET_NAME.search(name)
        for secret in secrets
        if len(secret) >= _MIN_CERTAIN_LENGTH
        and not (len(secret) <= _MAX_WORD_LENGTH and _is_word(secret))
        for form in {secret, json.dumps(secret, ensure_ascii=False)[1:-1]}
    ]
    if not certain:
        return None
    overlap = _LONGEST_ESCAPE * max(len(form.encode()) for _, form in certain)
    for start in range(0, len(body), _PIECE):
        piece = body[start : start + _PIECE + overlap]
        # This codec undoes the escapes that begin with "\\u". Like the other one, it does not know UTF-8.
        text = (
            piece.decode("raw_unicode_escape", "replace").replace("\\/", "/")
            if b"\\" in piece
            else piece.decode("latin-1")
        )
        for name, form in certain:
            if form in text or (not form.isascii() and form.encode().decode("latin-1") in text):
                return name
    return None


def _forms(secret: str) -> list[bytes]:
    """Return *secret* as it was sent, and as servers and HTTP libraries write it in their messages."""
    plain = secret.encode("utf-8", "replace")
    in_bytes = repr(plain)[2:-1], repr(bytearray(plain))[len("bytearray(b'") : -2]
    in_json = json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]
    forms = (*in_bytes, *in_json, html.escape(secret), quote(secret), quote(secret, safe=""))
    return [*dict.fromkeys((plain, *(form.encode("utf-8", "replace") for form in forms)))]


def _secrets_in_headers(request: Any) -> Iterator[tuple[str, set[str]]]:
    """Yield the name of each header and cookie, also of those for proxies, with its possible secrets."""
    proxy_headers = getattr(request, "extensions", {}).get(PROXY_HEADERS, ())
    for name, value in (*request.headers.items(), *proxy_headers):
        if name.lower() == "cookie":
            for cookie in value.split(";"):
                cookie_name, _, cookie_value = cookie.partition("=")
                yield cookie_name.strip(), {cookie_value.strip()}
            yield name, {value}
        elif name.lower() not in _PUBLIC_HEADERS:
            yield name, _secrets_in_header(value)


def _secrets_in_query(request: Any) -> Iterator[tuple[str, set[str]]]:
    """Yield the name of each parameter of the query, with the forms that its value may have."""
    for part in request.url.query.decode("ascii", "replace").split("&"):
        name, _, value = part.partition("=")
        if name not in _PUBLIC_PARAMETERS:
            yield name, {value, unquote(value), unquote_plus(value)}


def _secrets_in_header(value: str) -> set[str]:
    """Return the whole value, what follows its scheme, and a password."""
    secrets = {value, value.rpartition(" ")[2]}
    scheme, _, coded = value.partition(" ")
    if scheme.lower() == "basic":
        try:
            secrets.add(base64.b64decode(coded).decode().partition(":")[2])
        except ValueError:
            pass  # not the user name and password of basic authentication
    return secrets


def redacted_text(error: BaseException) -> str:
    """Return the text of *error*, which may quote what the service sent, without secrets."""
    return redacted(_text_of(error), _request_of(error))


def _request_of(error: BaseException) -> Any:
    try:
        return cast("Any", error).request
    except (AttributeError, RuntimeError):  # it has no request, or none was set
        return None


def redacted(text: str, request: Any) -> str:
    """Return *text* as `redact` does; without a request, as it is."""
    if request is None:
        return text
    return redact(text.encode("utf-8", "replace"), request).decode("utf-8", "replace")


def safe_cause(error: BaseException, request: Any) -> BaseException | None:
    """Return *error* as the ``__cause__`` of another error, or None if its text shows a secret.

    Args:
        error: an error of an HTTP library or of the application, which is changed.
        request: put in place of the request that the error holds, whose headers are secret.
    """
    everything, held = _everything_behind(error), _request_of(error)
    for each in everything:
        if shows_header(each) or redacted(text := _text_of(each), held) != text:
            return None
    for each in everything:
        for holder in (each, getattr(each, "response", None)):
            attributes: dict[str, Any] = getattr(holder, "__dict__", {})
            for name in {"request", "_request"}.intersection(attributes):
                attributes[name] = request
    return error


def _everything_behind(error: BaseException) -> list[BaseException]:
    """Return *error* and all errors that can be reached from it."""
    found: list[BaseException] = []
    left: list[BaseException | None] = [error]
    while left:
        each = left.pop()
        if each is not None and not any(each is other for other in found):
            found.append(each)
            left += (each.__cause__, each.__context__)
            if isinstance(each, BaseExceptionGroup):
                left += cast("BaseExceptionGroup[BaseException]", each).exceptions
    return found


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
