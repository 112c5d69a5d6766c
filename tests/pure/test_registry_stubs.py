"""The registry and stubs: clients that go on below the rules of a stub, and a main client that returns."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from heksher import Setting, _registry
from heksher._listening import ClientListeners
from heksher.clients.stub import SyncStubHeksherClient


class Client:
    """A client that notes the calls of the registry: ``+name``, ``-name``, and ``-*`` for all."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.listeners = ClientListeners(_registry.lock)

    def attach(self, settings: Iterable[Setting[Any]]) -> None:
        self.told += [f"+{setting.name}" for setting in settings]

    def detach(self, settings: Iterable[Setting[Any]] | None) -> None:
        self.told += ["-*"] if settings is None else [f"-{setting.name}" for setting in settings]


def setting_of(name: str) -> Setting[int]:
    return Setting(name, int, ["user"], 1)


def test_clients_go_on_below_the_rules_of_a_stub() -> None:
    setting, own = setting_of("a"), setting_of("b")
    main, owner = Client(), Client()
    _registry.set_main(main)
    _registry.move_to(own, owner)
    main.told.clear()
    stub = SyncStubHeksherClient()
    with stub.patch(setting, 5), stub.patch(own, 6), stub.patch(setting, 7):
        stub[setting].rules = 8
        assert (setting.get(user="jim"), own.get(user="jim")) == (8, 6)
    assert main.told == owner.told == []


def test_a_client_that_becomes_the_main_one_gets_a_setting_with_rules_of_a_stub() -> None:
    setting, _other = setting_of("a"), setting_of("b")
    client = Client()
    with SyncStubHeksherClient().patch(setting, 5):
        _registry.set_main(client)
        assert client.told == ["+a", "+b"]
    assert client.told == ["+a", "+b"]


def test_a_setting_that_was_forgotten_is_given_to_nobody() -> None:
    setting = setting_of("a")
    client = Client()
    with SyncStubHeksherClient().patch(setting, 5):
        _registry.reset()
        _registry.set_main(client)
    assert client.told == []
    assert setting.get() == 1


def test_a_client_that_resigned_gets_the_place_back_only_if_it_took_it_again() -> None:
    client = Client()
    _registry.set_main(client)
    with SyncStubHeksherClient():
        _registry.step_down(client)
    assert _registry.main() is None
    _registry.set_main(client)
    with SyncStubHeksherClient():
        pass
    assert _registry.main() is client


def test_a_stub_that_ended_meanwhile_does_not_get_the_place_back() -> None:
    stub, client = SyncStubHeksherClient(), Client()
    stub.set_as_main()
    former = _registry.set_main(client)
    stub.close()
    _registry.replace_main(client, former)  # its start failed
    assert _registry.main() is None
