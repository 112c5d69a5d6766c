"""The routes of the protocol: what each request does, in which order it is checked.

One module for each kind of resource. They know storage, the pure decisions about settings and the
forms of answers; each handler is one transaction. All paths stand here.
"""

from __future__ import annotations

import dataclasses
import functools

from starlette.routing import Route

from heksher.service.storage import Storage
from heksher.service.web.http import BASE, Call, Handler, Reply, Resource
from heksher.service.web.routes.context_features import ContextFeatures
from heksher.service.web.routes.health import Health
from heksher.service.web.routes.metadata import RuleMetadata, SettingMetadata
from heksher.service.web.routes.query import Query
from heksher.service.web.routes.rules import Rules
from heksher.service.web.routes.settings import Settings

HEALTH_PATH = "/api/health"


def _with_name(name: str, handler: Handler) -> Handler:
    """*handler* for a path that is spelled out and yet could be a setting's."""

    @functools.wraps(handler)
    def named(call: Call) -> Reply:
        return handler(dataclasses.replace(call, path={"name": name}))

    return named


def _metadata(resource: SettingMetadata | RuleMetadata) -> dict[str, Handler]:
    return {
        "GET": resource.get,
        "POST": resource.merge,
        "PUT": resource.replace,
        "DELETE": resource.clear,
    }


def _metadata_key(resource: SettingMetadata | RuleMetadata) -> dict[str, Handler]:
    return {"PUT": resource.put_key, "DELETE": resource.delete_key}


def routes(storage: Storage, version: str) -> list[Route]:
    """All paths of the service."""
    health, features = Health(storage, version), ContextFeatures(storage)
    settings, of_settings = Settings(storage), SettingMetadata(storage)
    rules, of_rules = Rules(storage), RuleMetadata(storage)
    query = Query(storage)
    table: dict[str, dict[str, Handler]] = {
        "/context_features": {"GET": features.list, "POST": features.add},
        "/context_features/{name}": {"GET": features.get, "DELETE": features.delete},
        "/context_features/{name}/index": {"PATCH": features.move},
        "/settings": {"GET": settings.list},
        # A setting may be called "declare", and is found like any other.
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
        # "search" stands where an id could stand, and is none for the other methods.
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
        # The first one that fits is taken, and this one is asked for most.
        Route(f"{BASE}/query", Resource({"GET": query.get}, {"GET": query.get_at_once})),
        Route(HEALTH_PATH, Resource({"GET": health.get}, too_late=health.unhealthy)),
        *(Route(BASE + path, Resource(handlers)) for path, handlers in table.items()),
    ]
