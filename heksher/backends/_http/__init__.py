"""The edge where httpx is: the only package that imports it, and that knows its errors.

Two transports, for event loops and for threads. Both bound every request as a whole, in time and in
size, and turn httpx's errors into this library's, which remain catchable as ``httpx.HTTPError``.

- `transport`: a request from beginning to end, and how failures are reported, for both;
- `async_transport`, `blocking_transport`: the two; the latter ends slow requests by `slot` and `deadline`;
- `clients`: how HTTP clients are made, and which cookies are kept;
- `network`: how those that are made here connect;
- `body`, `head`: bounds on the two parts of an answer;
- `errors`: errors that belong to this library and to httpx at once;
- `redaction`: keeps secrets out of their texts.

A client that an application hands in may come from another library of httpx's shape, which is
httpx2. That is imported nowhere: what is needed of it is reached from the objects that it made.
"""

from heksher.exceptions import BackendError

try:
    from heksher.backends._http.async_transport import AsyncTransport
    from heksher.backends._http.blocking_transport import BlockingTransport
except ImportError as error:
    raise BackendError(
        f"httpx cannot be imported: {error}; "
        "install it anew, by pip install --force-reinstall httpx"
    ) from error

__all__ = ["AsyncTransport", "BlockingTransport"]
