"""Fixtures for pytest: a live service to test against, and a stub client.

pytest loads this module in every run in an environment with heksher. It therefore imports only pytest
itself, and everything else when a test uses a fixture.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from heksher.clients.stub import SyncStubHeksherClient
    from heksher.testing.service import LiveService

_MARKER = (
    "heksher_service(features=[], in_process=False, tls=False, api_token=None, faults=''): "
    "options of the fixture heksher_service for this test"
)
_OPTIONS = ("features", "in_process", "tls", "api_token", "faults")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the settings that a project makes for all its tests."""
    parser.addini(
        "heksher_features", "context features of the fixture heksher_service", "args", default=[]
    )
    parser.addini(
        "heksher_service_in_process",
        "whether the fixture heksher_service runs in the test process",
        "bool",
        default=False,
    )
    parser.addini(
        "heksher_service_scope",
        "scope of the fixture heksher_service: function, class, module, package or session",
        default="function",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line("markers", _MARKER)


def _scope(fixture_name: str, config: pytest.Config) -> Any:  # noqa: ARG001 (pytest's signature)
    return config.getini("heksher_service_scope")


@pytest.fixture(scope="session")
def _heksher_services() -> Iterator[Callable[..., LiveService]]:
    """Share running services, one per configuration: emptying one is faster than starting one."""
    from heksher.testing.service import LiveService

    services: dict[tuple[bool, str | None], LiveService] = {}
    with ExitStack() as stack:

        def service(*, in_process: bool, api_token: str | None) -> LiveService:
            key = in_process, api_token
            if key not in services:
                made = LiveService(in_process=in_process, api_token=api_token)
                services[key] = stack.enter_context(made)
            return services[key]

        yield service


@pytest.fixture(scope=_scope)
def heksher_service(
    request: pytest.FixtureRequest, _heksher_services: Callable[..., LiveService]
) -> Iterator[LiveService]:
    """A Heksher service without settings, at a URL of its own, with faults on demand.

    ::

        def test_something(heksher_service):
            heksher_service.features = ["environment", "user"]
            heksher_service.add_rule(cache_ttl, 5, user="jim")
            with ThreadHeksherClient(heksher_service.url, 30, ["environment", "user"]):
                ...
    """
    marker = request.node.get_closest_marker("heksher_service")
    options: dict[str, Any] = {} if marker is None else dict(marker.kwargs)
    if unknown := options.keys() - set(_OPTIONS):
        raise pytest.UsageError(
            f"unknown option {', '.join(unknown)} of the marker heksher_service: "
            f"expected {', '.join(_OPTIONS)}"
        )
    if marker is not None and marker.args:
        raise pytest.UsageError("the marker heksher_service accepts its options only by name")
    config = request.config
    service = _heksher_services(
        in_process=options.get("in_process", config.getini("heksher_service_in_process")),
        api_token=options.get("api_token"),
    )
    service.renew(
        options.get("features", config.getini("heksher_features")), tls=options.get("tls", False)
    )
    service.faults.load(options.get("faults", ""))
    yield service
    service.faults.clear()


@pytest.fixture
def heksher_stub() -> Iterator[SyncStubHeksherClient]:
    """A stub client that is the main client during one test. Everything is undone afterwards.

    ::

        def test_something(heksher_stub):
            heksher_stub[cache_ttl].rules = 5
    """
    from heksher.clients.stub import SyncStubHeksherClient

    with SyncStubHeksherClient() as stub:
        yield stub
