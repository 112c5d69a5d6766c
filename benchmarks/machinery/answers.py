"""A service whose answers stand ready in memory, so that updates are measured without a network.

Knows nothing of heksher, so that other libraries are asked the same.
"""

from __future__ import annotations

import gc
import json
from typing import Any

import httpx

#: The service's context features.
FEATURES = ["environment", "user", "theme"]
#: Those of each setting.
CONFIGURABLE = ["environment", "user"]


def rule(number: int, *, mixed: bool) -> dict[str, Any]:
    """Return a rule for a user; *mixed*: every other one is for an environment as well."""
    conditions = [["user", f"user{(number + 1) // 2 if mixed else number}"]]
    if mixed and number % 2:
        conditions.insert(0, ["environment", "prod" if number % 4 == 3 else "dev"])
    return {"value": number, "context_features": conditions, "rule_id": number + 1}


class Answers:
    """A service in memory: settings with rules for users, which it says are declared already.

    Args:
        settings: how many.
        rules: how many each of them has.
        mixed: whether there are rules for users, and as many for an environment and a user.
    """

    def __init__(self, settings: int, rules: int, *, mixed: bool = False) -> None:
        # Short, so that one URL asks for a thousand of them, and one answer tells of all.
        self.names = [f"s{number}" for number in range(settings)]
        self.sections: dict[str, Any] = {
            name: {
                "default_value": 60,
                "rules": [rule(number, mixed=mixed) for number in range(rules)],
            }
            for name in self.names
        }
        self.changes = 0
        self.body = b""
        self.change()
        # Neither side is to pay for the garbage collector's walks through what the benchmark holds.
        gc.collect()
        gc.freeze()

    def change(self, *, everything: bool = True) -> None:
        """Give all settings another default value, or the first one alone."""
        self.changes += 1
        for name in self.names if everything else self.names[:1]:
            self.sections[name]["default_value"] = self.changes
        self.body = json.dumps({"settings": self.sections}).encode()

    def answer(self, request: httpx.Request) -> httpx.Response:
        """Answer what a client asks."""
        if request.url.path.endswith("/context_features"):
            return httpx.Response(200, json={"context_features": FEATURES})
        if request.url.path.endswith("/declare"):
            return httpx.Response(200, json={"outcome": "uptodate"})
        if request.url.path.endswith("/settings"):
            return httpx.Response(200, json={"settings": [self._data(name) for name in self.names]})
        return httpx.Response(200, content=self.body)

    def _data(self, name: str) -> dict[str, Any]:
        return {
            "name": name,
            "type": "int",
            "default_value": 60,
            "version": "1.0",
            "configurable_features": CONFIGURABLE,
        }

    @property
    def options(self) -> dict[str, Any]:
        """What makes a client reach this service."""
        return {"http_client_args": {"transport": httpx.MockTransport(self.answer)}}
