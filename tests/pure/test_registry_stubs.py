"""The registry and stubs: settings without a client for a while, and a main client that returns."""

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


def test_the_main_client_is_told_once_to_stop_and_once_to_go_on() -> None:
    setting, _other = setting_of("a"), setting_of("b")
    client, stub = Client(), SyncStubHeksherClient()
    _registry.set_main(client)
    client.told.clear()
    with stub.patch(setting, 5), stub.patch(setting, 6):
        stub[setting].rules = 7
        assert client.told == ["-a"]
    assert client.told == ["-a", "+a"]


def test_whoever_has_a_setting_as_its_own_is_told_and_the_main_client_is_not() -> None:
    setting = setting_of("a")
    main, owner = Client(), Client()
    _registry.set_main(main)
    _registry.move_to(setting, owner)
    main.told.clear()
    with SyncStubHeksherClient().patch(setting, 5):
        assert owner.told == ["-a"]
    assert owner.told == ["-a", "+a"]
    assert main.told == []


def test_the_main_client_is_told_once_of_its_own_setting() -> None:
    setting = setting_of("a")
    main = Client()
    _registry.set_main(main)
    _registry.move_to(setting, main)
    main.told.clear()
    with SyncStubHeksherClient().patch(setting, 5):
        assert main.told == ["-a"]
    assert main.told == ["-a", "+a"]


def test_a_client_that_becomes_the_main_one_gets_the_setting_when_it_is_free() -> None:
    setting, _other = setting_of("a"), setting_of("b")
    client = Client()
    with SyncStubHeksherClient().patch(setting, 5):
        _registry.set_main(client)
        assert client.told == ["+b"]
    assert client.told == ["+b", "+a"]


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
