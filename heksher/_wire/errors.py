"""What an unexpected status says: the error for it, and the seconds of its Retry-After header."""

from __future__ import annotations

from calendar import timegm
from email.utils import parsedate_to_datetime

from heksher._text import excerpt
from heksher._wire.messages import Request, Response
from heksher.exceptions import UnexpectedStatusError


def unexpected_status(
    request: Request, response: Response, now: float | None = None
) -> UnexpectedStatusError:
    """Return the error for an answer whose status is not among ``request.expected``.

    Args:
        request: what was asked.
        response: what came.
        now: see `retry_after`.
    """
    path = request.target.partition("?")[0]
    text = excerpt(response.body, 200)
    mend = None if path == "api/v1/query" else _MENDS.get(response.status)
    return UnexpectedStatusError(
        f"{request.method} {path} was answered with HTTP {response.status}"
        + (f": {text}" if text else "")
        + (f" ({mend})" if mend else ""),
        response.status,
        retry_after(response, now),
    )


_CREDENTIALS = "does it want credentials? Give them by http_client_args, as headers or auth"
_MENDS = {
    401: _CREDENTIALS,
    403: _CREDENTIALS,
    404: "is service_url the address of a Heksher service? It goes without /api/v1",
}


def retry_after(response: Response, now: float | None = None) -> float | None:
    """Return the seconds of a Retry-After header, which may be a date; anything else counts as none.

    Args:
        response: what came.
        now: seconds since the epoch, for an answer that does not say when it was made. That comes
            first, for clocks differ.
    """
    text = response.headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return min(float(text), 1e9)  # many digits are an infinity, which nobody expects
    until, made = _moment(text), _moment(response.headers.get("date", ""))
    since = now if made is None else made
    return None if until is None or since is None else max(0.0, until - since)


def _moment(date: str) -> float | None:
    """Return a date of HTTP, in any of its three forms, in seconds since the epoch."""
    try:
        return float(timegm(parsedate_to_datetime(date).utctimetuple()))
    except (ValueError, TypeError, IndexError, OverflowError):  # whatever it makes of nonsense
        return None
