"""What an unexpected status means: the error to raise, and how long to wait before a retry."""

from __future__ import annotations

from calendar import timegm
from email.utils import parsedate_to_datetime

from heksher._text import excerpt
from heksher._wire.messages import Request, Response
from heksher.exceptions import UnexpectedStatusError

_CREDENTIALS_HINT = (
    "if the service requires credentials, pass them in http_client_args, as headers or auth"
)
_HINTS = {
    401: _CREDENTIALS_HINT,
    403: _CREDENTIALS_HINT,
    404: "service_url must be the address of a Heksher service, without /api/v1",
}


def unexpected_status(
    request: Request, response: Response, now: float | None = None, *, base_url: str = ""
) -> UnexpectedStatusError:
    """Return the error for a response whose status is not in ``request.expected``.

    Args:
        request: the request that was sent.
        response: the response to it.
        now: see `retry_after`.
        base_url: the service's address, to be shown: a program may use more than one service.
    """
    path = request.target.partition("?")[0]
    text = excerpt(response.body, 200)
    # By the time of a query other requests have succeeded, so address and credentials are right.
    hint = None if path == "api/v1/query" else _HINTS.get(response.status)
    return UnexpectedStatusError(
        f"{request.method} {base_url}{path} returned HTTP {response.status}"
        + (f": {text}" if text else "")
        + (f" ({hint})" if hint else ""),
        response.status,
        retry_after(response, now),
    )


def retry_after(response: Response, now: float | None = None) -> float | None:
    """Return the number of seconds that a Retry-After header asks for, or None.

    The header holds a number or a date. Anything else counts as no header.

    Args:
        response: the response.
        now: seconds since the epoch. A date in Retry-After is compared with the response's own Date
            header, since the clocks of two machines differ; *now* is used if there is none.
    """
    text = response.headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return min(float(text), 1e9)  # float() turns a number of 400 digits into infinity
    until, sent = _epoch_seconds(text), _epoch_seconds(response.headers.get("date", ""))
    since = now if sent is None else sent
    return None if until is None or since is None else max(0.0, until - since)


def _epoch_seconds(date: str) -> float | None:
    """Return an HTTP date, in any of its three formats, as seconds since the epoch."""
    try:
        return float(timegm(parsedate_to_datetime(date).utctimetuple()))
    except (ValueError, TypeError, IndexError, OverflowError):  # all of them occur
        return None
