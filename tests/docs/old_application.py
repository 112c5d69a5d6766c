"""An application as teams have written it for heksher-py 0.2.2. It runs with both libraries unchanged.

It uses only what 0.2.2 had. It takes the service's URL as its argument, prints a line of JSON, and
prints one more for each line that it reads.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from enum import Enum, IntFlag, auto
from typing import Any

import httpx

import heksher
from heksher import TRACK_ALL, AsyncHeksherClient, ThreadHeksherClient
from heksher.exceptions import NoMatchError
from heksher.setting import Setting

FEATURES = ["environment", "user", "theme"]


class Color(Enum):
    BLUE = "blue"
    RED = "red"


class Help(IntFlag):
    LARGE_TEXT = auto()
    SPEECH = auto()


def keep_two(value: Any, raw: Any, coercions: Sequence[str], rule: Any, setting: Any) -> Any:
    if len(value) < 2:
        raise TypeError(f"too little is left for {setting.name}: {coercions}")
    return value


cache_ttl = Setting("cache_ttl", int, ["environment", "user"], 60)
background = Setting(
    name="background",
    type=Color,
    configurable_features=["theme"],
    default_value=Color.BLUE,
    metadata={"owner": "shop"},
)
help_level = Setting("help", Help, ["user"], Help.LARGE_TEXT)
colors = Setting("colors", Sequence[Color], ["user"], [Color.BLUE, Color.RED], on_coerce=keep_two)
costs = Setting("costs", Mapping[str, int], ["user"], {"tea": 2}, version="1.0")
retries = Setting("retries", int, ["user"], 3)


@cache_ttl.add_validator
def at_most_an_hour(value: int, rule: Any, setting: Any) -> int:
    if rule is not None:
        assert dict(rule.context_features)
    return min(value, 3600)


@retries.add_validator
def no_less_than_none(value: int, *_: Any) -> int:
    if value < 0:
        raise TypeError("a negative number of retries")
    return value


theme: ContextVar[str] = ContextVar("theme")


class CountingClient(AsyncHeksherClient):
    """A client that overrides the hooks."""

    errors = 0

    def on_update_error(self, exc: Exception) -> None:
        self.errors += 1


class Application:
    async def startup(self, url: str) -> None:
        self.updates = 0
        self.client = CountingClient(
            service_url=url,
            update_interval=300,
            context_features=FEATURES,
            http_client_args={"headers": {"api_token": "abc"}, "timeout": 10},
        )
        self.client.set_defaults(environment="dev")
        self.client.set_defaults(theme=theme)
        self.client.track_contexts(environment="dev", user=TRACK_ALL, theme=["bright", "dark"])
        self.client.on_update_ok = self.count
        try:
            await self.client.ping()
        except httpx.HTTPError:
            print("no service", file=sys.stderr)
        await self.client.set_as_main()

    async def shutdown(self) -> None:
        await self.client.close()

    def count(self) -> None:
        self.updates += 1

    def answers(self) -> dict[str, Any]:
        try:
            return {
                "cache_ttl": cache_ttl.get(user="jim"),
                "cache_ttl elsewhere": cache_ttl.get(environment="prod", user="jim"),
                "background": background.get().name,
                "background, dark": background.get(theme="dark").name,
                "help": int(help_level.get(user="jim")),
                "colors": [color.name for color in colors.get(user="jim")],
                "costs": dict(costs.get(user="jim")),
                "retries": retries.get(user="jim"),
            }
        except NoMatchError:
            return {}

    def mistakes(self) -> list[str]:
        found: list[str] = []
        try:
            cache_ttl.get(usr="jim")
        except (TypeError, ValueError):
            found.append("unknown")
        try:
            cache_ttl.get()
        except RuntimeError:
            found.append("missing")
        try:
            self.client.set_defaults(environment="prod")
        except ValueError:
            found.append("second default")
        try:
            self.client.track_contexts(user="jim")
        except RuntimeError:
            found.append("tracked already")
        return found


def failures(url: str) -> list[str]:
    """Return the errors that threads and event loops get from an unreachable service."""
    found: list[str] = []

    async def start() -> None:
        async with AsyncHeksherClient(url, 60, FEATURES) as client:
            await client.reload()

    try:
        asyncio.run(start())
    except httpx.ConnectError:
        found.append("start raised")
    client = ThreadHeksherClient(url, 60, FEATURES)
    client.set_as_main()
    found.append("threads go on")
    try:
        client.ping()
    except httpx.HTTPError:
        found.append("ping raised")
    client.close()
    return found


async def main(url: str) -> None:
    app = Application()
    theme.set("bright")
    await app.startup(url)
    print(json.dumps(app.answers()), flush=True)
    while await asyncio.to_thread(sys.stdin.readline):
        async with app.client.modification_lock:
            before = app.answers()
        await app.client.reload()
        assert before != app.answers(), "nothing changed"
        print(json.dumps(app.answers()), flush=True)
    names = sorted(await app.client.get_settings())
    mistakes = app.mistakes()
    await app.shutdown()
    told = {"settings": names, "mistakes": mistakes, "errors": app.client.errors}
    print(json.dumps({**told, "was told of updates": app.updates > 0}), flush=True)


if __name__ == "__main__":
    assert heksher.__version__
    if sys.argv[1] == "away":
        print(json.dumps(failures(sys.argv[2])))
    else:
        asyncio.run(main(sys.argv[1]))
