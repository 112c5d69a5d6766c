"""The routes of the protocol: the table of all paths here, the handlers in one module per resource.

Handlers check a request in the protocol's order and do the work in one transaction. They know
storage, the pure decisions of ``domain`` and the response bodies.
"""

from __future__ import annotations

import dataclasses
import functools

from starlette.routing import Route

from heksher.service.storage import Storage
from heksher.service.web.http import BASE, CachedHandler, Call, Handler, Reply, Resource
from heksher.service.web.routes.answers import Answers
from heksher.service.web.routes.context_features import ContextFeatureRoutes
from heksher.service.web.routes.health import HealthRoute
from heksher.service.web.routes.metadata import RuleMetadataRoutes, SettingMetadataRoutes
from heksher.service.web.routes.query import QueryRoute
from heksher.service.web.routes.rules import RuleRoutes
from heksher.service.web.routes.settings import SettingRoutes

HEALTH_PATH = "/api/health"


def _with_name(name: str, handler: Handler) -> Handler:
    """Make *handler* answer a literal path as if *name* came from a path parameter."""

    @functools.wraps(handler)
    def named(call: Call) -> Reply:
        return handler(dataclasses.replace(call, path={"name": name}))

    return named


def _metadata(resource: SettingMetadataRoutes | RuleMetadataRoutes) -> dict[str, Handler]:
    return {
        "GET": resource.get,
        "POST": resource.merge,
        "PUT": resource.replace,
        "DELETE": resource.clear,
    }


def _metadata_key(resource: SettingMetadataRoutes | RuleMetadataRoutes) -> dict[str, Handler]:
    return {"PUT": resource.put_key, "DELETE": resource.delete_key}


def routes(storage: Storage, version: str) -> list[Route]:
    """Make the routes of all paths."""
    answers = Answers(storage)
    query, health = QueryRoute(storage, answers), HealthRoute(storage, version)
    features = ContextFeatureRoutes(storage, answers)
    settings, of_settings = SettingRoutes(storage, answers), SettingMetadataRoutes(storage)
    rules, of_rules = RuleRoutes(storage), RuleMetadataRoutes(storage)
    cached: dict[str, dict[str, CachedHandler]] = {
        "/context_features": {"GET": features.list},
        "/settings": {"GET": settings.list},
    }
    table: dict[str, dict[str, Handler]] = {
        "/context_features": {"POST": features.add},
        "/context_features/{name}": {"GET": features.get, "DELETE": features.delete},
        "/context_features/{name}/index": {"PATCH": features.move},
        "/settings": {},
        # A setting may be named "declare"; GET and DELETE treat it like any other.
        "/settings/declare": {
            "POST": settings.declare,
            "GET": _with_name("declare", settings.get),
            "DELETE": _with_name("declare", settings.delete),
        },
        "/settings/{name}": {"GET": settings.get, "DELETE": settings.delete},
        "/settings/{name}/name": {"PUT": settings.rename},
        "/settings/{name}/type": {"PUT": settings.change_type},
        "/settings/{name}/configurable_features": {"PUT": settings.change_features},
        "/settings/{name}/metadata": _metadata(of_settings),
        "/settings/{name}/metadata/{key}": _metadata_key(of_settings),
        "/rules": {"POST": rules.add},
        # For methods other than GET, "search" is read as a rule id and refused as an invalid one.
        "/rules/search": {
            "GET": rules.search,
            "PATCH": rules.change_value,
            "DELETE": rules.delete,
        },
        "/rules/{id}": {"GET": rules.get, "PATCH": rules.change_value, "DELETE": rules.delete},
        "/rules/{id}/value": {"PUT": rules.change_value},
        "/rules/{id}/metadata": _metadata(of_rules),
        "/rules/{id}/metadata/{key}": _metadata_key(of_rules),
    }
    return [
        # The first match wins, and clients request this path most often.
        Route(f"{BASE}/query", Resource({}, {"GET": query.get})),
        Route(HEALTH_PATH, Resource({"GET": health.get}, on_timeout=health.unhealthy)),
        *(
            Route(BASE + path, Resource(handlers, cached.get(path)))
            for path, handlers in table.items()
        ),
    ]
