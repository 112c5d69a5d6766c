"""A service whose answers are ready in memory, so that updates can be measured without a network.

Knows nothing of heksher, so that other libraries can be measured with it.
"""

from __future__ import annotations

import gc
import json
from typing import Any

import httpx

#: The service's context features.
FEATURES = ["environment", "user", "theme"]
#: The configurable features of each setting.
CONFIGURABLE = ["environment", "user"]


def rule(number: int, *, mixed: bool) -> dict[str, Any]:
    """Return a rule for a user; if *mixed*, every other rule also has a condition on the environment."""
    conditions = [["user", f"user{(number + 1) // 2 if mixed else number}"]]
    if mixed and number % 2:
        conditions.insert(0, ["environment", "prod" if number % 4 == 3 else "dev"])
    return {"value": number, "context_features": conditions, "rule_id": number + 1}


class Answers:
    """A service in memory whose settings have rules for users. It says that all of them are declared.

    Args:
        settings: the number of settings.
        rules: the number of rules of each setting.
        mixed: whether half of the rules also have a condition on the environment.

    Attributes:
        changes: how often something was changed.
        has_revisions: whether it names revisions, and sends only the first section if a client has one.
    """

    has_revisions = False

    def __init__(self, settings: int, rules: int, *, mixed: bool = False) -> None:
        # Short names, so that a thousand of them fit into one URL.
        self.names = [f"s{number}" for number in range(settings)]
        self.sections: dict[str, Any] = {
            name: {
                "default_value": 60,
                "rules": [rule(number, mixed=mixed) for number in range(rules)],
            }
            for name in self.names
        }
        self.changes = 0
        self.body = self.first = b""
        self.change()
        # Otherwise the garbage collector's walks through the benchmark's own objects would be measured.
        gc.collect()
        gc.freeze()

    def change(self, *, everything: bool = True) -> None:
        """Change the default value of all settings, or only of the first one."""
        self.changes += 1
        for name in self.names if everything else self.names[:1]:
            self.sections[name]["default_value"] = self.changes
        self.body = json.dumps({"settings": self.sections}).encode()
        name = self.names[0]
        self.first = json.dumps({"settings": {name: self.sections[name]}}).encode()

    def answer(self, request: httpx.Request) -> httpx.Response:
        """Answer a request."""
        if request.url.path.endswith("/context_features"):
            headers = {"Heksher-Revision": str(self.changes)} if self.has_revisions else {}
            return httpx.Response(200, headers=headers, json={"context_features": FEATURES})
        if request.url.path.endswith("/declare"):
            return httpx.Response(200, json={"outcome": "uptodate"})
        if request.url.path.endswith("/settings"):
            return httpx.Response(200, json={"settings": [self._data(name) for name in self.names]})
        if not self.has_revisions:
            return httpx.Response(200, content=self.body)
        headers = {"Heksher-Revision": str(self.changes)}
        if "since" not in request.url.params:
            return httpx.Response(200, headers=headers, content=self.body)
        headers["Heksher-Partial"] = "1"
        return httpx.Response(200, headers=headers, content=self.first)

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
        """The client arguments that make a client reach this service."""
        return {"http_client_args": {"transport": httpx.MockTransport(self.answer)}}
