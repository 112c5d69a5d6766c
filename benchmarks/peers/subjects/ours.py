"""heksher itself."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from machinery.answers import CONFIGURABLE, FEATURES, Answers
from machinery.shapes import Shape

from peers.subjects import ENVIRONMENT, LookUps, Updates, by_name, check, statement_of


def look_ups(shapes: Sequence[Shape]) -> LookUps:
    """Publish the rules as an update does."""
    setting_of: Callable[[Shape], Any] = importlib.import_module("machinery.ours").setting_of
    settings = {name: setting_of(shape) for name, shape in by_name(shapes).items()}
    return LookUps(settings, statement_of)


@contextmanager
def updates(answers: Answers) -> Generator[Updates]:
    """Use a thread client."""
    heksher: Any = importlib.import_module("heksher")
    settings = declared(answers.names)
    client = heksher.ThreadHeksherClient(
        "http://memory", 1e6, FEATURES, startup="raise", **answers.options
    )
    client.set_defaults(environment=ENVIRONMENT)
    with client:
        yield Updates(settings, client.reload)


def starts(
    url: str, names: Sequence[str], clock: Callable[[], float]
) -> Mapping[str, Callable[[], float]]:
    """Use a thread client, and one on each event loop."""
    heksher: Any = importlib.import_module("heksher")
    asyncio: Any = importlib.import_module("asyncio")
    trio: Any = importlib.import_module("trio")

    async def start() -> float:
        settings = declared(names)
        began = clock()
        client = heksher.AsyncHeksherClient(url, 60, FEATURES)
        client.set_defaults(environment=ENVIRONMENT)
        await client.set_as_main()
        taken = clock() - began
        check(settings[0])
        await client.aclose()
        return taken

    def start_threads() -> float:
        settings = declared(names)
        began = clock()
        client = heksher.ThreadHeksherClient(url, 60, FEATURES, startup="raise")
        client.set_defaults(environment=ENVIRONMENT)
        client.set_as_main()
        taken = clock() - began
        check(settings[0])
        client.close()
        return taken

    return {
        "asyncio": lambda: asyncio.run(start()),
        "trio": lambda: trio.run(start),
        "threads": start_threads,
    }


def declared(names: Sequence[str]) -> list[Any]:
    """Return the settings as an application declares them."""
    setting: Any = importlib.import_module("heksher").Setting
    return [setting(name, int, CONFIGURABLE, 60) for name in names]
