"""heksher-py 0.2.2, the predecessor of this library."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from machinery.answers import CONFIGURABLE, FEATURES, Answers
from machinery.shapes import Shape

from peers.subjects import ENVIRONMENT, LookUps, Updates, by_name, check, statement_of


def look_ups(shapes: Sequence[Shape]) -> LookUps:
    """Give the rules to the settings of a client that is not started."""
    heksher: Any = importlib.import_module("heksher")
    queried_rule: Any = importlib.import_module("heksher.setting").QueriedRule
    client = tracking(heksher.ThreadHeksherClient("http://localhost", 60, FEATURES))
    client.set_defaults(**shapes[0].defaults)
    settings: dict[str, Any] = {}
    for name, shape in by_name(shapes).items():
        setting = heksher.Setting(name, type(shape.default), shape.features, shape.default)
        rules = [
            (value, queried_rule(number, list(conditions.items())))
            for number, (conditions, value) in enumerate(shape.rules, 1)
        ]
        setting.update(client, rules)
        settings[name] = setting
    # Settings hold their client weakly.
    names = {**settings, "client": client}
    return LookUps(names, statement_of)


@contextmanager
def updates(answers: Answers) -> Generator[Updates]:
    """Use a thread client."""
    heksher: Any = importlib.import_module("heksher")
    settings = declared(answers.names)
    client = heksher.ThreadHeksherClient("http://memory", 1e6, FEATURES, **answers.options)
    tracking(client).set_defaults(environment=ENVIRONMENT)
    with client:
        yield Updates(settings, client.reload)


def starts(
    url: str, names: Sequence[str], clock: Callable[[], float]
) -> Mapping[str, Callable[[], float]]:
    """Use a thread client, and one on asyncio."""
    heksher: Any = importlib.import_module("heksher")

    async def start() -> float:
        settings = declared(names)
        began = clock()
        client = tracking(heksher.AsyncHeksherClient(url, 60, FEATURES))
        client.set_defaults(environment=ENVIRONMENT)
        await client.set_as_main()
        taken = clock() - began
        check(settings[0])
        await client.aclose()
        return taken

    def start_threads() -> float:
        settings = declared(names)
        began = clock()
        client = tracking(heksher.ThreadHeksherClient(url, 60, FEATURES))
        client.set_defaults(environment=ENVIRONMENT)
        client.set_as_main()
        taken = clock() - began
        check(settings[0])
        client.close()
        return taken

    return {"asyncio": lambda: asyncio.run(start()), "threads": start_threads}


def declared(names: Sequence[str]) -> list[Any]:
    """Return settings as an application declares them before its first client starts."""
    # Otherwise the settings of the previous client would be taken over, and count as declared.
    main: Any = importlib.import_module("heksher.main_client")
    main.Main = importlib.import_module("heksher.heksher_client").TemporaryClient()
    setting: Any = importlib.import_module("heksher").Setting
    return [setting(name, int, CONFIGURABLE, 60) for name in names]


def tracking(client: Any) -> Any:
    """Let *client* track all features; otherwise each call would log."""
    everything: str = importlib.import_module("heksher").TRACK_ALL
    client.track_contexts(environment=everything, user=everything, theme=everything)
    return client
