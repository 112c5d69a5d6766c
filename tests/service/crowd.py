"""Many concurrent clients, and the invariants of the database afterwards."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeAlias

import httpx
from support.databases import KeptDatabase
from support.service_process import DEADLINE

Request: TypeAlias = tuple[str, str, Any]
"""Method, path below the API, body."""


def declaration(name: str, **more: Any) -> Request:
    """A declaration that needs the context feature ``user``."""
    body = {"name": name, "configurable_features": ["user"], "type": "int", "default_value": 0}
    return "POST", "/settings/declare", body | more


def send(client: httpx.Client, request: Request) -> httpx.Response:
    """Send one request."""
    method, path, body = request
    return client.request(method, f"/api/v1{path}", json=body)


def at_once(
    urls: Sequence[str], requests: Sequence[Request], connections: int | None = None
) -> list[httpx.Response]:
    """Send *requests* at the same time, distributed over connections.

    Args:
        urls: the services; connections are assigned to them in turn.
        requests: the requests; each connection sends its share in this order.
        connections: number of connections; by default, one per request.

    Returns:
        The answers, in the order of the requests.
    """
    count = connections or len(requests)
    start = threading.Barrier(count)

    def send_share(number: int) -> list[httpx.Response]:
        url = urls[number % len(urls)]
        with httpx.Client(base_url=url, timeout=DEADLINE, trust_env=False) as client:
            send(client, ("GET", "/context_features", None))  # connected before the others start
            start.wait(DEADLINE)
            return [send(client, request) for request in requests[number::count]]

    with ThreadPoolExecutor(count) as pool:
        shares = list(pool.map(send_share, range(count)))
    return [shares[number % count][number // count] for number in range(len(requests))]


def statuses(answers: Sequence[httpx.Response]) -> dict[int, int]:
    """Count the answers by status."""
    return dict(Counter(answer.status_code for answer in answers))


def check_invariants(database: KeptDatabase) -> None:
    """Check that nothing is duplicated and that there are no dangling references."""
    rows = database.rows
    settings = {name for (name,) in rows("SELECT name FROM settings")}
    features = rows('SELECT name, "index" FROM context_features')
    rules = dict(rows("SELECT id, setting FROM rules"))
    configurable = rows("SELECT setting, context_feature FROM configurable")
    aliases = rows("SELECT alias, setting FROM setting_aliases")

    assert sorted(index for _, index in features) == list(range(len(features)))
    assert {setting for setting, _ in configurable} == settings
    assert {feature for _, feature in configurable} <= {name for name, _ in features}
    assert {setting for _, setting in aliases} <= settings
    assert not {alias for alias, _ in aliases} & settings
    assert set(rules.values()) <= settings
    for table in ("setting_metadata", "rule_metadata"):
        owner, present = ("rule", rules) if table == "rule_metadata" else ("setting", settings)
        assert {name for (name,) in rows(f"SELECT {owner} FROM {table}")} <= set(present)

    conditions = defaultdict[int, set[tuple[str, str]]](set)
    for rule, feature, value in rows("SELECT rule, context_feature, feature_value FROM conditions"):
        conditions[rule].add((feature, value))
        assert (rules[rule], feature) in configurable
    assert conditions.keys() == rules.keys()
    of_settings = Counter((rules[rule], frozenset(on)) for rule, on in conditions.items())
    assert [key for key, count in of_settings.items() if count > 1] == []
