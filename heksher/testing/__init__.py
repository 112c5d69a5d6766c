"""Helpers for test suites: reset the state of the process to that after a fresh import.

Stub clients are in `heksher.clients.stub`, services to test against in `heksher.testing.service`.
Applications do not import this package.
"""

from __future__ import annotations

from heksher import _registry
from heksher.clients import _stub_layers

__all__ = ["reset"]


def reset() -> None:
    """Reset to the state after a fresh import: no main client, no settings, no stub.

    For suites whose tests define their own settings or start their own clients, so that they do not
    affect the next test and setting names can be used again. With pytest:

        @pytest.fixture(autouse=True)
        def fresh_heksher():
            heksher.testing.reset()

    - Stubs that are still in use end as if they were closed; their mocks are not called.
    - The main client loses its settings, except those added with ``add_settings``. It is not closed;
      the test that started it has to close it.
    - Existing settings are forgotten: no later client updates them. They keep the rules and
      defaults from real (not stub) clients, and can still be stubbed. If the settings of a suite are
      in modules that are imported only once, do not call this between tests that start real clients.
    """
    _registry.reset()  # first, so that no client gets the settings that the stubs return
    _stub_layers.end_all()
