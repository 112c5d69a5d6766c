"""What test suites need that applications don't: so far, a process state as after a fresh import.

Stub clients are in `heksher.clients.stub`. Nothing that an application runs imports this module.
"""

from __future__ import annotations

from heksher import _registry
from heksher.clients import stub

__all__ = ["reset"]


def reset() -> None:
    """Go back to the state of a fresh import: no main client, no settings, no stub.

    For suites whose tests define settings or start clients of their own: one test's settings and
    clients are none of the next one's, and their names are free again. With pytest:

        @pytest.fixture(autouse=True)
        def fresh_heksher():
            heksher.testing.reset()

    - Stubs that are still in use are ended, as if they were closed; their mocks are not called.
    - The main client loses its settings but for those that were added to it by ``add_settings``. It
      is not closed; whoever started it closes it.
    - Settings that somebody still holds are no longer known: no later client serves them. They keep
      the rules and defaults that they have from clients that are no stubs, as settings always do,
      and can be stubbed as before. A suite whose settings live in modules that are imported once
      should therefore not call this between tests that start real clients.
    """
    _registry.reset()  # first, so that no client is handed what the stubs give back
    stub.end_all()
