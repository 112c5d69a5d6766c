"""The OpenAPI document, generated from a table of operations and the types in ``messages``.

Pure: takes tables, returns a document. A route's responses come from its handler; its refusals and
descriptions are listed here. The tests compare the table with the routes that exist and with every
recorded response.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import msgspec

from heksher.service.domain import messages

_Schema: TypeAlias = dict[str, Any]

# In a table of responses: a body in plain text, and no body.
TEXT = str
NOTHING = None

# The body of a response: a type for JSON, TEXT or NOTHING. The bodies of an operation, by status.
_Body: TypeAlias = type | None
Responses: TypeAlias = Mapping[int, tuple[_Body, ...]]


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of the query string, or a header."""

    name: str
    about: str
    type: Any = str
    required: bool = False
    place: str = "query"


@dataclass(frozen=True, slots=True)
class Operation:
    """What a method of a path does, accepts and refuses, apart from the refusals of all operations."""

    tag: str
    summary: str
    refusals: Responses = field(default_factory=dict[int, tuple[_Body, ...]])
    body: tuple[type, ...] = ()
    parameters: tuple[Parameter, ...] = ()
    headers: Mapping[int, Mapping[str, str]] = field(default_factory=dict[int, Mapping[str, str]])


_FEATURES, _SETTINGS, _RULES, _QUERY = "context features", "settings", "rules", "query"
_NO_RULE: Responses = {404: (NOTHING,)}
_NO_SETTING: Responses = {404: (TEXT,)}
_ETAG = {"ETag": "for If-None-Match in a later request"}
_PARTIAL = {
    "Heksher-Partial": "1 if the response has only the settings that may have changed since `since`, each "
    "with all that it has; the context features have not changed since then"
}
_REVISION = {"Heksher-Revision": "names the state of the database; another one: something changed"}

_IN_PATH: Mapping[str, tuple[Any, str]] = {
    "name": (str, "a name; a setting is also found by its aliases"),
    "id": (int, "the id of a rule"),
    "key": (messages.MetadataKey, "a key of metadata"),
}


def _metadata_of(owner: str, tag: str, missing: Responses, path: str) -> dict[str, Operation]:
    """List the operations on metadata of settings, which need a version, or of rules."""
    versioned = owner == "setting"
    conflict: Responses = {409: (TEXT,)} if versioned else {}
    change = (messages.SettingMetadataChange if versioned else messages.RuleMetadataChange,)
    value = (messages.SettingMetadataValue if versioned else messages.NewValue,)
    version = (messages.VersionOnly,) if versioned else ()
    refusals: Responses = {**missing, **conflict}
    return {
        f"GET {path}": Operation(tag, f"Get the metadata of a {owner}", missing),
        f"POST {path}": Operation(tag, "Set some keys of the metadata", refusals, change),
        f"PUT {path}": Operation(tag, "Replace all metadata", refusals, change),
        f"DELETE {path}": Operation(tag, "Delete all metadata", refusals, version),
        f"PUT {path}/{{key}}": Operation(tag, "Set one key of the metadata", refusals, value),
        f"DELETE {path}/{{key}}": Operation(
            tag, "Delete one key of the metadata", refusals, version
        ),
    }


#: All operations, by method and path.
OPERATIONS: Mapping[str, Operation] = {
    "GET /api/health": Operation(
        "health",
        "Check whether the service can answer; needs no token",
    ),
    "GET /api/v1/context_features": Operation(
        _FEATURES, "List all context features, in order", headers={200: _REVISION}
    ),
    "POST /api/v1/context_features": Operation(
        _FEATURES,
        "Add a context feature at the end",
        {409: (TEXT,)},
        (messages.NewFeature,),
    ),
    "GET /api/v1/context_features/{name}": Operation(
        _FEATURES, "Get the index of a context feature", {404: (NOTHING,)}
    ),
    "DELETE /api/v1/context_features/{name}": Operation(
        _FEATURES,
        "Delete a context feature that no setting uses",
        {404: (NOTHING,), 409: (TEXT,)},
    ),
    "PATCH /api/v1/context_features/{name}/index": Operation(
        _FEATURES,
        "Move a context feature after or before another one",
        {404: (NOTHING,)},
        (messages.AfterFeature, messages.BeforeFeature),
    ),
    "GET /api/v1/settings": Operation(
        _SETTINGS,
        "List all settings",
        parameters=(
            Parameter(
                "include_additional_data", "whether to include features, metadata and aliases", bool
            ),
            Parameter(
                "settings",
                "names or aliases, joined by commas; unknown ones are left out. Missing: all settings",
            ),
        ),
        headers={200: _REVISION},
    ),
    "POST /api/v1/settings/declare": Operation(
        _SETTINGS,
        "Declare a setting, which is created, compared, upgraded or refused",
        {
            400: (TEXT,),
            404: (TEXT, messages.Refused),
            409: (messages.Refused,),
        },
        (messages.Declaration,),
    ),
    "GET /api/v1/settings/{name}": Operation(_SETTINGS, "Get a setting", _NO_SETTING),
    "DELETE /api/v1/settings/{name}": Operation(
        _SETTINGS, "Delete a setting with its rules", _NO_SETTING
    ),
    "PUT /api/v1/settings/{name}/name": Operation(
        _SETTINGS,
        "Rename a setting; its former name becomes an alias",
        {409: (TEXT,), **_NO_SETTING},
        (messages.NewName,),
    ),
    "PUT /api/v1/settings/{name}/type": Operation(
        _SETTINGS,
        "Change the type of a setting; its default value and its rules must fit",
        {409: (TEXT, messages.Conflicts), **_NO_SETTING},
        (messages.NewType,),
    ),
    "PUT /api/v1/settings/{name}/configurable_features": Operation(
        _SETTINGS,
        "Change the configurable features of a setting; features that rules use must stay",
        {404: (TEXT, messages.Refused), 409: (TEXT,)},
        (messages.NewFeatures,),
    ),
    **_metadata_of("setting", _SETTINGS, _NO_SETTING, "/api/v1/settings/{name}/metadata"),
    "POST /api/v1/rules": Operation(
        _RULES,
        "Add a rule; no other rule of the setting may have the same conditions",
        {400: (TEXT,), 409: (TEXT,), 422: (TEXT,)},
        (messages.NewRule,),
        headers={201: {"Location": "path of the rule"}},
    ),
    "GET /api/v1/rules/search": Operation(
        _RULES,
        "Find the rule with exactly these conditions",
        _NO_RULE,
        parameters=(
            Parameter("setting", "the name of the setting", messages.SettingName, required=True),
            Parameter("feature_values", "feature:value, joined by commas", str, required=True),
        ),
    ),
    "GET /api/v1/rules/{id}": Operation(_RULES, "Get a rule", _NO_RULE),
    "PATCH /api/v1/rules/{id}": Operation(
        _RULES,
        "Change the value of a rule; the older way",
        {400: (TEXT,), 404: (TEXT,)},
        (messages.NewValue,),
    ),
    "PUT /api/v1/rules/{id}/value": Operation(
        _RULES,
        "Change the value of a rule",
        {400: (TEXT,), 404: (TEXT,)},
        (messages.NewValue,),
    ),
    "DELETE /api/v1/rules/{id}": Operation(_RULES, "Delete a rule", _NO_RULE),
    **_metadata_of("rule", _RULES, _NO_RULE, "/api/v1/rules/{id}/metadata"),
    "GET /api/v1/query": Operation(
        _QUERY,
        "Get default values and rules, as clients poll them",
        {400: (TEXT,), 404: (TEXT,)},
        parameters=(
            Parameter("settings", "names of settings, joined by commas; default: all"),
            Parameter(
                "context_filters",
                "filter for rules: * for all, or feature:* and feature:(value,value), joined by "
                "commas; a rule passes if the filter lists each of its conditions",
            ),
            Parameter("include_metadata", "whether to include the metadata of rules", bool),
            Parameter(
                "since",
                "Heksher-Revision of an earlier response to the same query; the response may then "
                "have only the settings that may have changed, and says so by Heksher-Partial",
            ),
            Parameter("If-None-Match", "ETags of responses that the client has", place="header"),
        ),
        headers=dict.fromkeys((200, 304), _ETAG | _REVISION | _PARTIAL),
    ),
}

# What a status means, for all operations.
_MEANINGS: Mapping[int, str] = {
    200: "The requested data, or the outcome",
    201: "Added",
    204: "Done",
    304: "Not modified",
    400: "The request does not fit the stored data, or its body cannot be read",
    401: "No valid token",
    403: "Sent by a web page of another origin",
    404: "Not found",
    409: "Conflict with the stored data",
    413: "The body is too long",
    421: "The host is not a name of this service",
    422: "Invalid request",
    500: "The database does not answer",
    503: "The database is unavailable at the moment",
}
_HEADERS: Mapping[int, Mapping[str, str]] = {
    401: {"WWW-Authenticate": "the authentication scheme"},
    503: {"Retry-After": "seconds to wait before the next attempt"},
}

# Refusals of all operations: body too long, database unavailable. Then those of services with tokens, and
# of those without.
_ALWAYS: Responses = {413: (messages.Refused,), 503: (TEXT,)}
_WITH_TOKEN: Responses = {401: (messages.Refused,)}
_WITHOUT_TOKEN: Responses = {403: (messages.Refused,), 421: (messages.Refused,)}


def document(
    version: str,
    responses: Mapping[str, Responses],
    *,
    root_path: str = "",
    with_token: bool = False,
) -> dict[str, Any]:
    """Make the document of a service.

    Args:
        version: the version of the service.
        responses: responses of the handlers that are not refusals, by method and path.
        root_path: prefix of all paths, if the service is mounted in another application.
        with_token: whether the service requires a token.
    """
    references, components = _schemas(OPERATIONS.values(), responses.values())
    paths: dict[str, _Schema] = {}
    for route, operation in OPERATIONS.items():
        method, _, path = route.partition(" ")
        is_open = with_token and operation.tag == "health"
        more = [responses[route]]
        if not is_open:
            more.append(_WITH_TOKEN if with_token else _WITHOUT_TOKEN)
        paths.setdefault(path, {})[method.lower()] = _operation(
            path, operation, references, more
        ) | ({"security": []} if is_open else {})
    found: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "Heksher",
            "version": version,
            "description": "Settings, and rules that give them other values in some contexts.",
        },
        "servers": [{"url": root_path or "/"}],
        "paths": paths,
        "components": {"schemas": components},
    }
    if with_token:
        found["components"]["securitySchemes"] = {
            "header": {"type": "apiKey", "in": "header", "name": "api_token"},
            "bearer": {"type": "http", "scheme": "bearer"},
        }
        found["security"] = [{"header": []}, {"bearer": []}]
    return found


def _schemas(
    operations: Collection[Operation], responses: Iterable[Responses]
) -> tuple[dict[Any, _Schema], dict[str, Any]]:
    """Return a schema for each type, and the components that these schemas refer to."""
    used: list[Any] = [messages.Malformed, messages.Refused]
    used += [kind for kind, _ in _IN_PATH.values()]
    for operation in operations:
        used += operation.body
        used += [parameter.type for parameter in operation.parameters]
    for each in (*responses, *(operation.refusals for operation in operations)):
        used += [kind for kinds in each.values() for kind in kinds if kind]
    distinct = list(dict.fromkeys(used))
    schemas, components = msgspec.json.schema_components(
        distinct, ref_template="#/components/schemas/{name}"
    )
    return dict(zip(distinct, schemas, strict=True)), components


def _operation(
    path: str, operation: Operation, references: Mapping[Any, _Schema], more: Iterable[Responses]
) -> _Schema:
    in_path = [name for name in _IN_PATH if f"{{{name}}}" in path]
    responses = defaultdict[int, tuple[_Body, ...]](tuple)
    for each in (*more, _ALWAYS, operation.refusals):
        for status, kinds in each.items():
            responses[status] += kinds
    if operation.body:
        responses[400] += (messages.Refused,)
    if in_path or operation.body or operation.parameters:
        responses[422] += (messages.Malformed,)
    found: _Schema = {"tags": [operation.tag], "summary": operation.summary}
    parameters = [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": _IN_PATH[name][1],
            "schema": references[_IN_PATH[name][0]],
        }
        for name in in_path
    ] + [
        {
            "name": parameter.name,
            "in": parameter.place,
            "required": parameter.required,
            "description": parameter.about,
            "schema": references[parameter.type],
        }
        for parameter in operation.parameters
    ]
    if parameters:
        found["parameters"] = parameters
    if operation.body:
        schema = _any_of([references[kind] for kind in operation.body])
        found["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": schema}},
        }
    found["responses"] = {
        str(status): _response(
            status,
            dict.fromkeys(kinds),
            references,
            {**_HEADERS.get(status, {}), **operation.headers.get(status, {})},
        )
        for status, kinds in sorted(responses.items())
    }
    return found


def _response(
    status: int,
    kinds: Iterable[_Body],
    references: Mapping[Any, _Schema],
    headers: Mapping[str, str],
) -> _Schema:
    found: _Schema = {"description": _MEANINGS[status]}
    as_json = [references[kind] for kind in kinds if kind is not None and kind is not TEXT]
    content: _Schema = {}
    if as_json:
        content["application/json"] = {"schema": _any_of(as_json)}
    if TEXT in kinds:
        content["text/plain"] = {"schema": references[TEXT]}
    if content:
        found["content"] = content
    if headers:
        found["headers"] = {
            name: {"description": about, "schema": {"type": "string"}}
            for name, about in headers.items()
        }
    return found


def _any_of(schemas: list[_Schema]) -> _Schema:
    return schemas[0] if len(schemas) == 1 else {"anyOf": schemas}
