"""HTTP clients that an application passes or configures: httpx's and httpx2's, on every backend.

Both libraries have the same interface, but share no class, not even for errors.
"""

from __future__ import annotations

import copy
import errno
import functools
import gzip
import inspect
import itertools
import pickle
import socket
import ssl
import subprocess
import sys
import textwrap
import threading
import time
import traceback
from collections.abc import Callable, Generator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import httpx2
import pytest
import trustme
from support.harness import AnyClient, Harness, ThreadHarness
from support.leftovers import Leftovers
from support.misbehaving import (
    OK,
    Answer,
    MisbehavingServer,
    endless,
    hang_up,
    http,
    silence,
    trickle,
)

import heksher
from heksher import ThreadHeksherClient
from heksher._wire import Request
from heksher.backends import HttpOptions
from heksher.backends._http.redaction import redacted_text
from heksher.backends._thread import ThreadBackend
from heksher.exceptions import (
    BackendError,
    ClientClosedError,
    HeksherError,
    InvalidArgumentError,
    InvalidResponseError,
    MissingFeatureError,
    ServiceUnreachableError,
    UnexpectedStatusError,
)
from heksher.testing.service import LiveService

pytestmark = pytest.mark.integration

FEATURES = ["user"]
HEALTHY = b'{"version":"test"}'
TOKEN = "t0ken"

# As objects without types: pyright would hold the one library's classes against the other's.
LIBRARIES: dict[str, Any] = {"httpx": httpx, "httpx2": httpx2}
each_library = pytest.mark.parametrize("library", LIBRARIES.values(), ids=LIBRARIES)

_names = itertools.count()


@pytest.fixture(scope="module")
def service() -> Iterator[LiveService]:
    with LiveService(FEATURES, api_token=TOKEN, proxy=False) as service:
        yield service


def kind_of_client(backend: Harness, library: Any) -> Any:
    return library.Client if backend.is_blocking else library.AsyncClient


def other_kind_of_client(backend: Harness, library: Any) -> Any:
    return library.AsyncClient if backend.is_blocking else library.Client


async def close_http(client: Any) -> None:
    if hasattr(client, "aclose"):
        await client.aclose()
    else:
        client.close()


def make_client(backend: Harness, url: str, **options: Any) -> AnyClient:
    return backend.client(url, 60, FEATURES, **options)


def moved(location: str) -> Answer:
    return http(b"", f"HTTP/1.1 307 Moved\r\nlocation: {location}\r\n".encode())


# --- clients that are passed ----------------------------------------------------------------------


@pytest.mark.parametrize("as_factory", [False, True], ids=["ready", "factory"])
@each_library
def test_values_arrive_over_a_client_of_either_library(
    backend: Harness, library: Any, as_factory: bool, service: LiveService
) -> None:
    made: list[Any] = []

    def make() -> Any:
        kind = kind_of_client(backend, library)
        made.append(kind(headers={"api_token": TOKEN}, timeout=30))
        return made[-1]

    async def body() -> None:
        name = f"value_{next(_names)}"
        setting = heksher.Setting(name, int, FEATURES, 1)
        service.get("/settings")  # the test's own connection
        leftovers = Leftovers()
        given: Any = make if as_factory else make()
        async with make_client(backend, service.url, http_client=given) as client:
            await client.ping()
            service.add_rule(name, 2, user="jim")
            await client.reload()
            assert (setting.get(user="jim"), setting.get(user="joe")) == (2, 1)
            assert name in await client.get_settings()
        assert made
        assert {each.is_closed for each in made} == {as_factory}
        if not as_factory:
            # It still works, and the application has to close it.
            answer = made[0].get(f"{service.url}/api/health")
            assert (await answer if inspect.isawaitable(answer) else answer).status_code == 200
            await close_http(made[0])
        await leftovers.gone(backend)

    backend.run(body)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(silence, id="silence"),
        pytest.param(trickle(OK), id="trickling-headers"),
        pytest.param(
            trickle(OK + b"content-length: 100000\r\n\r\n" + b" " * 1000), id="trickling-body"
        ),
    ],
)
@each_library
def test_a_request_over_a_ready_client_is_bounded_in_time(
    backend: Harness, library: Any, answer: Answer
) -> None:
    async def body() -> None:
        async_or_not = kind_of_client(backend, library)(timeout=None)
        client = make_client(backend, server.url, request_timeout=0.3, http_client=async_or_not)
        before = time.monotonic()
        with pytest.raises(ServiceUnreachableError, match=r"longer than 0\.3 seconds") as caught:
            await client.ping()
        assert time.monotonic() - before < 5
        assert isinstance(caught.value, library.TimeoutException)
        assert isinstance(caught.value, httpx.HTTPError)
        await client.close()
        await close_http(async_or_not)

    with MisbehavingServer(answer) as server:
        backend.run(body)


@each_library
def test_the_bound_holds_on_a_connection_that_the_application_opened(
    backend: Harness, library: Any
) -> None:
    async def body() -> None:
        ready = kind_of_client(backend, library)(timeout=None)
        answer = ready.get(f"{server.url}/")
        if inspect.isawaitable(answer):
            await answer
        client = make_client(backend, server.url, request_timeout=0.3, http_client=ready)
        with pytest.raises(ServiceUnreachableError, match="longer than"):
            await client.ping()
        assert server.open_connections() <= 1
        await client.close()
        await close_http(ready)

    with MisbehavingServer(http(HEALTHY)) as server:
        server.answer_by("api/health", begin_and_fall_silent)
        backend.run(body)


def begin_and_fall_silent(connection: Any, stop: threading.Event) -> None:
    connection.sendall(OK + b"content-length: 100\r\n\r\n{")
    stop.wait()


@each_library
def test_closing_ends_a_request_that_hangs_in_a_ready_client(
    backend: Harness, library: Any
) -> None:
    async def body() -> None:
        ready = kind_of_client(backend, library)(timeout=None)
        client = make_client(
            backend, server.url, startup="continue", startup_timeout=60, http_client=ready
        )
        starting = backend.beside(client.set_as_main)
        await backend.until(server.connected.is_set, "the request arrives")
        before = time.monotonic()
        await client.close()
        assert time.monotonic() - before < 3
        await backend.until(lambda: starting.ended)
        assert isinstance(starting.error, ClientClosedError)
        assert not ready.is_closed
        await close_http(ready)

    with MisbehavingServer(silence) as server:
        backend.run(body)


@each_library
def test_an_answer_over_a_ready_client_is_bounded_in_size(backend: Harness, library: Any) -> None:
    async def body() -> None:
        ready = kind_of_client(backend, library)()
        client = make_client(backend, server.url, max_response_bytes=100_000, http_client=ready)
        with pytest.raises(InvalidResponseError, match="is larger than max_response_bytes=100000"):
            await client.ping()
        await client.close()
        await close_http(ready)

    with MisbehavingServer(endless(b"x" * 4096)) as server:
        backend.run(body)


@each_library
def test_a_client_that_follows_redirects_follows_them_to_the_same_origin_only(
    backend: Harness, library: Any
) -> None:
    async def body() -> None:
        ready = kind_of_client(backend, library)(
            follow_redirects=True, headers={"api_token": TOKEN}
        )
        client = make_client(backend, home.url, http_client=ready)
        await client.ping()
        home.answer_by("api/health", moved(f"{abroad.url}/api/health"))
        with pytest.raises(UnexpectedStatusError, match="307"):
            await client.ping()
        await client.close()
        await close_http(ready)
        assert abroad.requests == []

    with MisbehavingServer(http(HEALTHY)) as home, MisbehavingServer(http(HEALTHY)) as abroad:
        home.answer_by("api/health", moved("/api/moved"))
        backend.run(body)


@pytest.mark.parametrize("startup", ["raise", "continue"])
@pytest.mark.parametrize("as_factory", [False, True], ids=["ready", "factory"])
@each_library
def test_a_client_of_the_other_kind_is_refused(
    backend: Harness, library: Any, as_factory: bool, startup: str
) -> None:
    other = other_kind_of_client(backend, library)
    given = functools.partial(other, headers={"api_token": TOKEN})

    async def body() -> None:
        options = {"http_client": given if as_factory else given(), "startup": startup}
        client = make_client(backend, "http://127.0.0.1:9", **options)
        for call in (client.ping, client.set_as_main):
            with pytest.raises(InvalidArgumentError, match="http_client=") as caught:
                await call()
            wanted = kind_of_client(backend, httpx).__name__
            assert f"{library.__name__}.{other.__name__}" in str(caught.value)
            assert f"expected an httpx.{wanted} or an object that works like one" in str(
                caught.value
            )
            assert TOKEN not in str(caught.value)
        await client.close()

    backend.run(body)


def test_a_coroutine_function_makes_no_client(backend: Harness) -> None:
    async def make() -> Any:
        raise AssertionError

    async def body() -> None:
        client = make_client(backend, "http://127.0.0.1:9", http_client=make)
        with pytest.raises(InvalidArgumentError, match=r"made an object of the class .*coroutine"):
            await client.ping()
        await client.close()

    backend.run(body)


# --- errors and their classes ---------------------------------------------------------------------

UNAUTHORISED = b"HTTP/1.1 401 No\r\nwww-authenticate: Basic\r\n"
CUT = OK + b"content-length: 100\r\n\r\n{"


def cut_short(connection: Any, stop: threading.Event) -> None:
    connection.sendall(CUT)
    connection.close()


STATUSES = {
    401: http(b"who are you", UNAUTHORISED),
    403: http(b"{}", b"HTTP/1.1 403 No\r\n"),
    500: http(b"oops", "HTTP/1.1 500 No\r\nx-note: käse\r\n".encode("latin-1")),
    502: http(gzip.compress(b"bad"), b"HTTP/1.1 502 No\r\ncontent-encoding: gzip\r\n"),
    503: http(b"{}", b"HTTP/1.1 503 No\r\nretry-after: 7\r\n"),
}
NO_ANSWERS: dict[str, tuple[Answer, str]] = {
    "hang-up": (hang_up, "RemoteProtocolError"),
    "cut-body": (cut_short, "RemoteProtocolError"),
    "no-http": (http(b"x", b"nonsense\r\n"), "RemoteProtocolError"),
    "bad-gzip": (http(b"no gzip", OK + b"content-encoding: gzip\r\n"), "TransportError"),
    "timeout": (silence, "TimeoutException"),
}


async def each_call_fails(
    backend: Harness,
    url: str,
    expected: type[HeksherError],
    *,
    is_healthy: bool = False,
    **options: Any,
) -> list[Any]:
    """Return the errors of all calls that make requests; if the service *is_healthy*, but for `ping`."""
    errors: list[Any] = []

    async def fails(call: Callable[[], Any]) -> None:
        with pytest.raises(expected) as caught:
            await call()
        errors.append(caught.value)

    leftovers = Leftovers()
    heksher.Setting(f"never_{next(_names)}", int, FEATURES, 1)
    client = make_client(backend, url, startup="raise", **options)
    if is_healthy:
        await client.ping()
    else:
        await fails(client.ping)
    await fails(client.get_settings)
    await fails(client.set_as_main)
    await client.close()
    client = make_client(backend, url, startup="continue", **options)
    await client.set_as_main()
    await fails(client.reload)
    await client.close()
    if "http_client" not in options:
        await leftovers.gone(backend)
    return errors


@pytest.mark.parametrize("status", STATUSES)
@each_library
def test_a_status_that_means_no_success_is_an_error_of_each_family(
    backend: Harness, library: Any, status: int
) -> None:
    async def body() -> None:
        make = kind_of_client(backend, library)
        errors = await each_call_fails(backend, server.url, UnexpectedStatusError, http_client=make)
        assert len(errors) == 4
        for error in errors:
            assert {httpx.HTTPStatusError, library.HTTPStatusError} <= {*type(error).__mro__}
            # The request and the status.
            assert f"GET {server.url}/api/" in str(error)
            assert f"returned HTTP {status}" in str(error)
            assert error.status == status
            assert error.retry_after == (7 if status == 503 else None)
            # The attributes that users of the HTTP library read, with that library's classes.
            response = error.response
            assert isinstance(response, library.Response)
            assert response.status_code == status
            assert response.headers.get("retry-after") == ("7" if status == 503 else None)
            request = error.request
            assert isinstance(request, library.Request)
            assert str(request.url).startswith(server.url)
        assert str(errors[0]).startswith(f"GET {server.url}/api/health returned")
        assert ("oops" in str(errors[0])) is (status == 500)
        assert (errors[0].response.text == "bad") is (status == 502)

    with MisbehavingServer(STATUSES[status]) as server:
        backend.run(body)


@pytest.mark.parametrize("what", NO_ANSWERS)
@each_library
def test_no_answer_is_an_error_of_each_family(backend: Harness, library: Any, what: str) -> None:
    answer, kind = NO_ANSWERS[what]

    async def body() -> None:
        make = kind_of_client(backend, library)
        errors = await each_call_fails(
            backend,
            server.url,
            ServiceUnreachableError,
            http_client=make,
            request_timeout=0.1 if what == "timeout" else 30,
        )
        for error in errors:
            assert_unreachable(error, library, kind)
            assert f"GET {server.url}/api/" in str(error)

    with MisbehavingServer(answer) as server:
        backend.run(body)


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "http://nobody.invalid"])
@each_library
def test_nobody_there_is_an_error_of_each_family(backend: Harness, library: Any, url: str) -> None:
    async def body() -> None:
        make = kind_of_client(backend, library)
        for error in await each_call_fails(backend, url, ServiceUnreachableError, http_client=make):
            assert_unreachable(error, library, "ConnectError")

    backend.run(body)


def assert_unreachable(error: Any, library: Any, kind: str) -> None:
    assert isinstance(error, httpx.TransportError)
    assert isinstance(error, library.TransportError)
    # It has the most specific class that the HTTP library has for it.
    assert isinstance(error, getattr(library, kind))
    assert isinstance(error.request, library.Request)
    assert error.request.method == "GET"
    # A copy without headers, which may hold a token: errors are stored and pickled.
    assert set(error.request.headers) <= {"host"}


@each_library
def test_what_is_no_json_is_an_error_of_the_service(backend: Harness, library: Any) -> None:
    async def body() -> None:
        make = kind_of_client(backend, library)
        for error in await each_call_fails(
            backend, server.url, InvalidResponseError, is_healthy=True, http_client=make
        ):
            # Code that catches httpx.HTTPError around reload() catches every fault of the service.
            assert {httpx.DecodingError, library.DecodingError} <= {*type(error).__mro__}
            assert isinstance(error.request, library.Request)
            assert str(error).startswith(f"GET {server.url}/api/")

    with MisbehavingServer(http(b"<html>")) as server:
        backend.run(body)


@pytest.mark.parametrize(
    "answer", [hang_up, STATUSES[503], http(b"<html>")], ids=["hang-up", "503", "no-json"]
)
@each_library
def test_an_error_can_be_copied_and_pickled(backend: Harness, library: Any, answer: Answer) -> None:
    async def body() -> None:
        client = make_client(backend, server.url, http_client=kind_of_client(backend, library))
        with pytest.raises(HeksherError) as caught:
            await client.get_settings()
        await client.close()
        error: Any = caught.value
        error.add_note("seen in a worker")
        pickled = pickle.loads(pickle.dumps(error))
        for back in (pickled, copy.copy(error), copy.deepcopy(error)):
            assert type(back) is type(error)
            assert isinstance(back, library.HTTPError)
            assert (str(back), back.args) == (str(error), error.args)
            assert back.__notes__ == ["seen in a worker"]
            assert (back.request.method, back.request.url) == ("GET", error.request.url)
            if answer is STATUSES[503]:
                assert (back.status, back.retry_after) == (503, 7)
                assert back.response.status_code == 503
                assert back.response.content == error.response.content

    with MisbehavingServer(answer) as server:
        backend.run(body)


def test_an_error_of_the_applications_own_is_one_of_the_library(backend: Harness) -> None:
    class CircuitOpen(httpx2.ConnectError):
        def __init__(self, since: float) -> None:
            super().__init__("")
            self.since = since

        def __str__(self) -> str:
            return f"open since {self.since}"

    def refuse(_request: Any) -> Any:
        raise CircuitOpen(7)

    async def body() -> None:
        ready = kind_of_client(backend, httpx2)(transport=httpx2.MockTransport(refuse))
        client = make_client(backend, "http://heksher", http_client=ready)
        with pytest.raises(ServiceUnreachableError, match="open since 7") as caught:
            await client.ping()
        assert isinstance(caught.value, httpx2.ConnectError)
        assert not isinstance(caught.value, CircuitOpen)
        assert isinstance(caught.value.__cause__, CircuitOpen)
        await client.close()
        await close_http(ready)

    backend.run(body)


def test_a_timeout_of_the_applications_own_is_not_taken_for_the_clients(backend: Harness) -> None:
    def refuse(_request: Any) -> Any:
        raise TimeoutError("no token within a second")

    async def body() -> None:
        ready = kind_of_client(backend, httpx)(transport=httpx.MockTransport(refuse))
        client = make_client(backend, "http://heksher", http_client=ready)
        with pytest.raises(ServiceUnreachableError, match="got no answer: no token within"):
            await client.ping()
        await client.close()
        await close_http(ready)

    backend.run(body)


def test_an_error_of_this_library_passes_through_a_request(backend: Harness) -> None:
    """An application's transport or auth flow may ask a setting for a value."""

    def refuse(_request: Any) -> Any:
        raise MissingFeatureError("token", "user")

    async def body() -> None:
        ready = kind_of_client(backend, httpx)(transport=httpx.MockTransport(refuse))
        client = make_client(backend, "http://heksher", http_client=ready)
        with pytest.raises(MissingFeatureError):
            await client.ping()
        await client.close()
        await close_http(ready)

    backend.run(body)


def test_a_client_inside_another_object_has_its_librarys_errors(backend: Harness) -> None:
    class Wrapped:
        def __init__(self, inner: Any) -> None:
            self._inner = inner

        def __getattr__(self, name: str) -> Any:
            return getattr(self._inner, name)

    async def body() -> None:
        ready = kind_of_client(backend, httpx2)()
        client = make_client(backend, "http://127.0.0.1:9", http_client=Wrapped(ready))
        with pytest.raises(httpx2.ConnectError):
            await client.ping()
        await client.close()
        await close_http(ready)

    backend.run(body)


def test_a_callable_that_fails_may_do_so_with_an_error_of_the_library(backend: Harness) -> None:
    def make() -> Any:
        raise httpx2.ConnectError("no token to be had")

    async def body() -> None:
        client = make_client(backend, "http://127.0.0.1:9", http_client=make)
        with pytest.raises(httpx2.ConnectError, match="no token") as caught:
            await client.ping()
        assert isinstance(caught.value, ServiceUnreachableError)
        assert isinstance(caught.value, httpx.HTTPError)
        await client.close()

    backend.run(body)


@each_library
def test_a_header_that_cannot_be_sent_is_not_shown(
    backend: Harness, library: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def body() -> None:
        ready = kind_of_client(backend, library)(headers={"api_token": "tops3cret\n"})
        client = make_client(backend, server.url, http_client=ready)
        with pytest.raises(ServiceUnreachableError, match="a header cannot be sent") as caught:
            await client.ping()
        assert isinstance(caught.value, library.LocalProtocolError)
        assert "s3cret" not in "".join(traceback.format_exception(caught.value))
        await client.close()
        await close_http(ready)

    with MisbehavingServer(http(HEALTHY)) as server:
        backend.run(body)
    assert "s3cret" not in caplog.text


def run_python(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)],
        check=True,
        capture_output=True,
        text=True,
    ).stdout


def test_httpx2_is_not_imported_unless_the_application_does_it() -> None:
    assert "httpx only" in run_python(
        """
        import sys, heksher, httpx
        client = heksher.ThreadHeksherClient("http://127.0.0.1:9", 60, ["user"])
        try:
            client.ping()
        except httpx.HTTPError:
            pass
        client.close()
        print("httpx only" if "httpx2" not in sys.modules else "both")
        """
    )


def test_httpx2_may_stand_in_for_httpx() -> None:
    assert "caught" in run_python(
        """
        import httpx2
        httpx2.alias_httpx()
        import heksher
        client = heksher.ThreadHeksherClient("http://127.0.0.1:9", 60, ["user"])
        try:
            client.ping()
        except httpx2.ConnectError:
            print("caught")
        client.close()
        """
    )


# --- http_client_args -----------------------------------------------------------------------------

IN_THE_REQUEST: list[tuple[dict[str, Any], bytes]] = [
    ({"headers": {"x-team": "blue"}}, b"\r\nx-team: blue\r\n"),
    ({"headers": [("x-team", "blue"), ("x-team", "red")]}, b"x-team: blue\r\nx-team: red\r\n"),
    ({"auth": ("jim", "pw")}, b"\r\nauthorization: Basic amltOnB3\r\n"),
    ({"cookies": {"session": "7"}}, b"\r\ncookie: session=7\r\n"),
    ({"params": {"tenant": "blue"}}, b"GET /api/health?tenant=blue HTTP/1.1\r\n"),
    # Arguments that would change the requests themselves have no effect.
    ({"base_url": "http://elsewhere.invalid/base"}, b"GET /api/health HTTP/1.1\r\n"),
    ({"headers": {"accept-encoding": "br, zstd"}}, b"\r\naccept-encoding: gzip\r\n"),
]


@pytest.mark.parametrize(("arguments", "sent"), IN_THE_REQUEST, ids=lambda each: ascii(each)[:30])
def test_arguments_show_in_the_request(
    backend: Harness, arguments: dict[str, Any], sent: bytes
) -> None:
    async def body() -> None:
        client = make_client(backend, server.url, http_client_args=arguments)
        await client.ping()
        await client.close()

    with MisbehavingServer(http(HEALTHY)) as server:
        backend.run(body)
    (request,) = server.requests
    # Names of headers are compared in lower case.
    head, _, rest = request.partition(b"\r\n")
    lines = [line.partition(b":") for line in rest.split(b"\r\n")]
    folded = [name.lower() + colon + value for name, colon, value in lines]
    assert sent in b"\r\n".join((head, *folded))


def test_credentials_in_the_url_go_before_those_in_the_arguments(backend: Harness) -> None:
    async def body() -> None:
        url = server.url.replace("http://", "http://jim:pw@")
        client = make_client(backend, url, http_client_args={"auth": ("other", "one")})
        await client.ping()
        await client.close()

    with MisbehavingServer(http(HEALTHY)) as server:
        backend.run(body)
    assert b"Basic amltOnB3\r\n" in server.requests[0]


@pytest.mark.parametrize("library", [None, httpx, httpx2], ids=["own", "httpx", "httpx2"])
def test_parameters_of_the_client_go_with_the_query_of_a_request(
    backend: Harness, library: Any, service: LiveService
) -> None:
    arguments = {"headers": {"api_token": TOKEN}, "params": {"tenant": "a b", "raw": "false"}}

    async def body() -> None:
        name = f"value_{next(_names)}"
        setting = heksher.Setting(name, int, FEATURES, 1)
        service.declare(name, "int", 1, FEATURES)
        service.add_rule(name, 2, user="jim")
        options: dict[str, Any] = {"http_client_args": arguments}
        if library is not None:
            make = kind_of_client(backend, library)
            options = {"http_client": functools.partial(make, **arguments)}
        async with make_client(backend, service.url, **options) as client:
            assert setting.get(user="jim") == 2
            assert name in await client.get_settings()

    backend.run(body)


def test_a_service_with_a_token_is_reached_with_the_header(
    backend: Harness, service: LiveService
) -> None:
    async def body() -> None:
        setting = heksher.Setting(f"value_{next(_names)}", int, FEATURES, 1)
        bare = make_client(backend, service.url)
        with pytest.raises(UnexpectedStatusError) as caught:
            await bare.get_settings()
        assert caught.value.status in (401, 403)
        await bare.close()
        headers = {"api_token": TOKEN}
        async with make_client(backend, service.url, http_client_args={"headers": headers}):
            service.add_rule(setting.name, 2, user="jim")

    backend.run(body)


def test_requests_go_through_a_proxy(backend: Harness) -> None:
    async def body() -> None:
        # Only the proxy could resolve this name.
        client = make_client(
            backend, "http://heksher.invalid", http_client_args={"proxy": proxy.url}
        )
        await client.ping()
        await client.close()

    with MisbehavingServer(http(HEALTHY)) as proxy:
        backend.run(body)
    assert [request.split(b"\r\n")[0] for request in proxy.requests] == [
        b"GET http://heksher.invalid/api/health HTTP/1.1"
    ]


def test_a_request_through_a_proxy_is_bounded_in_time(backend: Harness) -> None:
    async def body() -> None:
        client = make_client(
            backend,
            "https://heksher.invalid",
            request_timeout=0.3,
            http_client_args={"proxy": proxy.url, "timeout": None},
        )
        before = time.monotonic()
        with pytest.raises(ServiceUnreachableError, match="longer than"):
            await client.ping()
        assert time.monotonic() - before < 5
        await client.close()

    with MisbehavingServer(trickle(OK)) as proxy:
        backend.run(body)
    assert proxy.requests[0].startswith(b"CONNECT heksher.invalid:443 ")


@pytest.mark.parametrize("trust_env", [True, False])
def test_the_environments_proxy_is_used_as_the_arguments_say(
    backend: Harness, trust_env: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body() -> None:
        client = make_client(backend, server.url, http_client_args={"trust_env": trust_env})
        await client.ping()
        await client.close()

    with MisbehavingServer(http(HEALTHY)) as server, MisbehavingServer(http(HEALTHY)) as proxy:
        for name in ("no_proxy", "NO_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("http_proxy", proxy.url)
        backend.run(body)
    assert (len(proxy.requests), len(server.requests)) == ((1, 0) if trust_env else (0, 1))


def test_the_old_name_of_the_argument_for_proxies_is_refused_with_the_mend(
    backend: Harness,
) -> None:
    async def body() -> None:
        proxies = {"all://": "http://jim:tops3cret@proxy"}
        client = make_client(
            backend, "http://heksher.invalid", http_client_args={"proxies": proxies}
        )
        with pytest.raises(InvalidArgumentError, match="proxy= and mounts=") as caught:
            await client.ping()
        assert "s3cret" not in str(caught.value)
        await client.close()

    backend.run(body)


class _Healthy(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-length", str(len(HEALTHY)))
        self.end_headers()
        self.wfile.write(HEALTHY)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def test_certificates_are_verified_as_the_arguments_say(backend: Harness) -> None:
    authority = trustme.CA()
    ours, theirs = ssl.create_default_context(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.configure_trust(ours)  # pyright: ignore[reportUnknownMemberType]
    authority.issue_cert("127.0.0.1").configure_cert(theirs)  # pyright: ignore[reportUnknownMemberType]

    async def ping(url: str, **arguments: Any) -> None:
        client = make_client(backend, url, http_client_args=arguments)
        try:
            await client.ping()
        finally:
            await client.close()

    async def body() -> None:
        url = f"https://127.0.0.1:{server.server_port}"
        await ping(url, verify=ours)
        await ping(url, verify=False)
        with pytest.raises(ServiceUnreachableError) as caught:
            await ping(url)
        # Neither a line of CPython's source, nor what the system calls the number of another error.
        assert str(caught.value) == (
            f"GET {url}/api/health got no answer: [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify "
            "failed: unable to get local issuer certificate"
        )

    with ThreadingHTTPServer(("127.0.0.1", 0), _Healthy) as server:
        server.handle_error = lambda *_: None  # type: ignore[method-assign]
        server.socket = theirs.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            backend.run(body)
        finally:
            server.shutdown()
            thread.join()


def test_a_handshake_that_takes_too_long_is_a_timeout(backend: Harness) -> None:
    async def body() -> None:
        url = server.url.replace("http:", "https:")
        client = make_client(backend, url, http_client_args={"timeout": 0.05})
        with pytest.raises(ServiceUnreachableError) as caught:
            await client.ping()
        assert isinstance(caught.value, httpx.ConnectTimeout)
        reason = str(caught.value).removeprefix(f"GET {url}/api/health got no answer: ")
        assert reason in ("ConnectTimeout", "The handshake operation timed out")
        await client.close()

    with MisbehavingServer(silence) as server:
        backend.run(body)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (OSError("all failed"), "all failed"),
        (OSError(errno.EPERM, "failed"), "[Errno 1] failed: Operation not permitted"),
        # Their numbers are not those of the operating system.
        (ssl.SSLError(1, "[SSL] failed (_ssl.c:1006)"), "[SSL] failed"),
        (socket.gaierror(8, "unknown host"), "[Errno 8] unknown host"),
    ],
    ids=["no number", "system", "TLS", "look-up"],
)
def test_the_systems_words_are_added_for_its_own_errors_only(error: OSError, text: str) -> None:
    assert redacted_text(error) == text


@pytest.mark.parametrize("timeout", [0.05, httpx.Timeout(30, read=0.05)], ids=["number", "object"])
def test_a_shorter_timeout_of_the_application_counts(backend: Harness, timeout: Any) -> None:
    async def body() -> None:
        client = make_client(backend, server.url, http_client_args={"timeout": timeout})
        with pytest.raises(ServiceUnreachableError) as caught:
            await client.ping()
        assert isinstance(caught.value, httpx.ReadTimeout)
        await client.close()

    with MisbehavingServer(silence) as server:
        backend.run(body)


@pytest.mark.parametrize("as_stream", [False, True], ids=["ready", "stream"])
@each_library
def test_a_transport_answers_in_the_networks_place(
    backend: Harness, library: Any, as_stream: bool
) -> None:
    def answer(request: Any) -> Any:
        assert str(request.url) == "http://heksher/api/health"
        if not as_stream:
            return library.Response(200, json={"version": "mocked"})
        stream = library.ByteStream(HEALTHY)
        return library.Response(200, stream=stream)

    async def body() -> None:
        arguments = {"transport": library.MockTransport(answer)}
        make = functools.partial(kind_of_client(backend, library), **arguments)
        options: list[dict[str, Any]] = [{"http_client": make}, {"http_client": make()}]
        if library is httpx:
            options += [
                {"http_client_args": arguments},
                {"http_client_args": {"mounts": {"all://": arguments["transport"]}}},
            ]
        for each in options:
            client = make_client(backend, "http://heksher", **each)
            await client.ping()
            await client.close()

    backend.run(body)


def test_the_answer_of_a_transport_is_bounded_in_size(backend: Harness) -> None:
    transport = httpx.MockTransport(lambda _: httpx.Response(200, content=b" " * 200))

    async def body() -> None:
        client = make_client(
            backend,
            "http://heksher",
            max_response_bytes=100,
            http_client_args={"transport": transport},
        )
        with pytest.raises(InvalidResponseError, match="is larger than max_response_bytes=100"):
            await client.ping()
        await client.close()

    backend.run(body)


def test_an_auth_flow_of_several_requests_is_followed(backend: Harness) -> None:
    seen: list[str | None] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers.get("authorization", "")[:6])
        if seen[-1] != "Digest":
            challenge = 'Digest realm="r", nonce="n", qop="auth", algorithm=MD5'
            return httpx.Response(401, headers={"www-authenticate": challenge})
        return httpx.Response(200, content=HEALTHY)

    async def body() -> None:
        arguments = {
            "transport": httpx.MockTransport(answer),
            "auth": httpx.DigestAuth("jim", "pw"),
        }
        client = make_client(backend, "http://heksher", http_client_args=arguments)
        await client.ping()
        await client.close()

    backend.run(body)
    assert seen == ["", "Digest"]


def hooks(
    backend: Harness,
    *,
    request: Callable[[Any], object] | None = None,
    response: Callable[[Any], object] | None = None,
) -> dict[str, Any]:
    """Return event hooks for the backend; *response* gets the answer after its body was read."""

    def on_request(sent: Any) -> None:
        if request is not None:
            request(sent)

    async def on_request_async(sent: Any) -> None:
        on_request(sent)

    def on_response(answer: Any) -> None:
        answer.read()
        if response is not None:
            response(answer)

    async def on_response_async(answer: Any) -> None:
        await answer.aread()
        if response is not None:
            response(answer)

    if backend.is_blocking:
        return {"request": [on_request], "response": [on_response]}
    return {"request": [on_request_async], "response": [on_response_async]}


@each_library
def test_event_hooks_see_requests_and_may_read_answers(
    backend: Harness, library: Any, service: LiveService
) -> None:
    paths: list[str] = []
    sizes: list[int] = []

    def sign(request: Any) -> None:
        paths.append(request.url.path)
        request.headers["api_token"] = TOKEN

    async def body() -> None:
        name = f"value_{next(_names)}"
        setting = heksher.Setting(name, int, FEATURES, 1)
        event_hooks = hooks(
            backend, request=sign, response=lambda answer: sizes.append(len(answer.content))
        )
        options: dict[str, Any] = {"http_client_args": {"event_hooks": event_hooks}}
        if library is httpx2:
            make = kind_of_client(backend, httpx2)
            options = {"http_client": functools.partial(make, event_hooks=event_hooks)}
        async with make_client(backend, service.url, **options) as client:
            service.add_rule(name, 2, user="jim")
            await client.reload()
            assert setting.get(user="jim") == 2

    backend.run(body)
    assert "/api/v1/query" in paths
    assert len(paths) == len(sizes)
    assert all(sizes)


def test_an_event_hook_may_refuse_a_status(backend: Harness, service: LiveService) -> None:
    # A hook from the documentation of httpx. It raises unless the status is a success, so also for 304.
    arguments = {
        "headers": {"api_token": TOKEN},
        "event_hooks": hooks(backend, response=lambda answer: answer.raise_for_status()),
    }

    async def body() -> None:
        name = f"value_{next(_names)}"
        setting = heksher.Setting(name, int, FEATURES, 1)
        async with make_client(backend, service.url, http_client_args=arguments) as client:
            service.add_rule(name, 2, user="jim")
            await client.reload()
            await client.reload()
            assert setting.get(user="jim") == 2
        bare = {"event_hooks": arguments["event_hooks"]}
        client = make_client(backend, service.url, http_client_args=bare)
        with pytest.raises(UnexpectedStatusError) as caught:
            await client.get_settings()
        assert caught.value.status in (401, 403)
        await client.close()

    backend.run(body)


def test_a_refused_token_is_not_taken_for_the_services_answer(backend: Harness) -> None:
    class Token(httpx.Auth):
        def auth_flow(
            self, request: httpx.Request
        ) -> Generator[httpx.Request, httpx.Response, None]:
            answer = yield httpx.Request("GET", "http://tokens/")
            answer.raise_for_status()
            yield request

    async def body() -> None:
        arguments = {
            "transport": httpx.MockTransport(lambda _: httpx.Response(404)),
            "auth": Token(),
        }
        client = make_client(backend, "http://heksher", http_client_args=arguments)
        with pytest.raises(ServiceUnreachableError, match="http://tokens/"):
            await client.ping()
        await client.close()

    backend.run(body)


def test_a_transport_is_closed_at_the_end_and_not_before(backend: Harness) -> None:
    class Counted(httpx.HTTPTransport):
        closed = 0

        def close(self) -> None:
            self.closed += 1
            super().close()

    class CountedAsync(httpx.AsyncHTTPTransport):
        closed = 0

        async def aclose(self) -> None:
            self.closed += 1
            await super().aclose()

    transport = Counted() if backend.is_blocking else CountedAsync()

    async def body() -> None:
        client = make_client(
            backend, server.url, request_timeout=0.3, http_client_args={"transport": transport}
        )
        both = [backend.beside(client.ping) for _ in range(2)]
        await backend.until(lambda: all(each.ended for each in both))
        assert all(isinstance(each.error, ServiceUnreachableError) for each in both)
        # Ending the requests has closed their connections, but not the transport.
        assert transport.closed == 0
        server.answer_by("api/health", http(HEALTHY))
        await client.ping()
        await client.close()
        assert transport.closed == 1

    with MisbehavingServer(silence) as server:
        backend.run(body)


def test_a_forked_child_uses_no_connection_of_its_parents_transport() -> None:
    async def body() -> None:
        options = HttpOptions(f"{server.url}/", client_args={"transport": shared})
        request = Request("GET", "api/health")
        parents, childs = (ThreadBackend().create_transport(options) for _ in range(2))
        await parents.send(request)
        assert server.open_connections() == 1
        # What a child does with its copy of the parent's transport: it closes its own sockets.
        parents.abandon()
        await backend.until(lambda: server.open_connections() == 0, "the connection is closed")
        assert (await childs.send(request)).body == HEALTHY
        await childs.aclose()

    backend = ThreadHarness()
    with MisbehavingServer(http(HEALTHY)) as server, httpx.HTTPTransport() as shared:
        backend.run(body)


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"http_client": httpx.Client()}, "http_client"),
        ({"http_client_args": {"transport": httpx.HTTPTransport()}}, "transport"),
        ({"http_client_args": {"mounts": {"http://": httpx.HTTPTransport()}}}, "transport"),
    ],
    ids=["http_client", "transport", "mounts"],
)
def test_what_was_handed_in_ready_is_not_used_in_a_forked_child(
    options: dict[str, Any], what: str
) -> None:
    with MisbehavingServer(http(HEALTHY)) as server:
        client = ThreadHeksherClient(server.url, 60, ["user"], **options)
        client.ping()
        # As the hook after a fork does. The parent's other threads may have held the client's locks.
        client._core.resume_in_child()  # pyright: ignore[reportPrivateUsage]
        with pytest.raises(BackendError, match=f"the {what} that was handed in.*a callable"):
            client.ping()
        client.close()
