"""The edge where httpx is: the only package that imports it, and that knows its errors.

Two transports, for event loops and for threads. Both bound every request as a whole, in time and in
size, and turn httpx's errors into this library's, which remain catchable as ``httpx.HTTPError``.

A client that an application hands in may come from another library of httpx's shape, which is
httpx2. That is imported nowhere: what is needed of it is reached from the objects that it made.
"""

from heksher.backends._http.async_transport import AsyncTransport
from heksher.backends._http.blocking_transport import BlockingTransport

__all__ = ["AsyncTransport", "BlockingTransport"]
