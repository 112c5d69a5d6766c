"""The OpenAPI document: what each route takes and answers, made of the types in ``messages``.

Pure: tables in, a document out. What a route answers comes from its handler; what it may refuse, and
what people should know of it, stands here. The tests hold the table against the routes that there
are, and against every recorded answer.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import msgspec

from heksher.service.domain import messages as types

_Schema: TypeAlias = dict[str, Any]

# What stands for a sentence in plain text, and for an answer without body.
TEXT = str
NOTHING = None

# An answer's body: one of several types, as plain text or as JSON.
_Body: TypeAlias = type | None
Answers: TypeAlias = Mapping[int, tuple[_Body, ...]]


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
    """What a method of a path does, takes and refuses, besides what every operation may refuse."""

    tag: str
    summary: str
    refusals: Answers = field(default_factory=dict[int, tuple[_Body, ...]])
    body: tuple[type, ...] = ()
    parameters: tuple[Parameter, ...] = ()
    headers: Mapping[int, Mapping[str, str]] = field(default_factory=dict[int, Mapping[str, str]])


_FEATURES, _SETTINGS, _RULES, _QUERY = "context features", "settings", "rules", "query"
_NO_RULE: Answers = {404: (NOTHING,)}
_NO_SETTING: Answers = {404: (TEXT,)}
_ETAG = {"ETag": "what If-None-Match may name later on"}

_IN_PATH: Mapping[str, tuple[Any, str]] = {
    "name": (str, "a name; a setting is found by its aliases as well"),
    "id": (int, "the id of a rule"),
    "key": (types.MetadataKey, "a key of metadata"),
}


def _metadata_of(owner: str, tag: str, missing: Answers, path: str) -> dict[str, Operation]:
    """The operations on the metadata of settings, which have versions, or of rules."""
    versioned = owner == "setting"
    conflict: Answers = {409: (TEXT,)} if versioned else {}
    change = (types.SettingMetadataChange if versioned else types.RuleMetadataChange,)
    value = (types.SettingMetadataValue if versioned else types.NewValue,)
    version = (types.VersionOnly,) if versioned else ()
    refusals: Answers = {**missing, **conflict}
    return {
        f"GET {path}": Operation(tag, f"The metadata of a {owner}", missing),
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
        "Whether the service can answer; needs no token",
    ),
    "GET /api/v1/context_features": Operation(_FEATURES, "All context features, in order"),
    "POST /api/v1/context_features": Operation(
        _FEATURES,
        "Add a context feature at the end",
        {409: (TEXT,)},
        (types.NewFeature,),
    ),
    "GET /api/v1/context_features/{name}": Operation(
        _FEATURES, "Where a context feature stands", {404: (NOTHING,)}
    ),
    "DELETE /api/v1/context_features/{name}": Operation(
        _FEATURES,
        "Delete a context feature that no setting uses",
        {404: (NOTHING,), 409: (TEXT,)},
    ),
    "PATCH /api/v1/context_features/{name}/index": Operation(
        _FEATURES,
        "Put a context feature behind or before another one",
        {404: (NOTHING,)},
        (types.AfterFeature, types.BeforeFeature),
    ),
    "GET /api/v1/settings": Operation(
        _SETTINGS,
        "All settings",
        parameters=(
            Parameter(
                "include_additional_data", "whether with features, metadata and aliases", bool
            ),
        ),
    ),
    "POST /api/v1/settings/declare": Operation(
        _SETTINGS,
        "Declare a setting: it is created, found equal, upgraded or refused",
        {
            400: (TEXT,),
            404: (TEXT, types.Refused),
            409: (types.Refused,),
        },
        (types.Declaration,),
    ),
    "GET /api/v1/settings/{name}": Operation(_SETTINGS, "A setting", _NO_SETTING),
    "DELETE /api/v1/settings/{name}": Operation(
        _SETTINGS, "Delete a setting with its rules", _NO_SETTING
    ),
    "PUT /api/v1/settings/{name}/name": Operation(
        _SETTINGS,
        "Rename a setting; its former name becomes an alias",
        {409: (TEXT,), **_NO_SETTING},
        (types.NewName,),
    ),
    "PUT /api/v1/settings/{name}/type": Operation(
        _SETTINGS,
        "Give a setting another type, which its default value and its rules must fit",
        {409: (TEXT, types.Conflicts), **_NO_SETTING},
        (types.NewType,),
    ),
    "PUT /api/v1/settings/{name}/configurable_features": Operation(
        _SETTINGS,
        "Give a setting other configurable features; those that rules use must stay",
        {404: (TEXT, types.Refused), 409: (TEXT,)},
        (types.NewFeatures,),
    ),
    **_metadata_of("setting", _SETTINGS, _NO_SETTING, "/api/v1/settings/{name}/metadata"),
    "POST /api/v1/rules": Operation(
        _RULES,
        "Add a rule, on conditions that no other rule of the setting has",
        {400: (TEXT,), 409: (TEXT,), 422: (TEXT,)},
        (types.NewRule,),
        headers={201: {"Location": "where the rule is"}},
    ),
    "GET /api/v1/rules/search": Operation(
        _RULES,
        "The rule with exactly these conditions",
        _NO_RULE,
        parameters=(
            Parameter("setting", "the name of the setting", types.SettingName, required=True),
            Parameter("feature_values", "feature:value, joined by commas", str, required=True),
        ),
    ),
    "GET /api/v1/rules/{id}": Operation(_RULES, "A rule", _NO_RULE),
    "PATCH /api/v1/rules/{id}": Operation(
        _RULES,
        "Give a rule another value; the older way",
        {400: (TEXT,), 404: (TEXT,)},
        (types.NewValue,),
    ),
    "PUT /api/v1/rules/{id}/value": Operation(
        _RULES,
        "Give a rule another value",
        {400: (TEXT,), 404: (TEXT,)},
        (types.NewValue,),
    ),
    "DELETE /api/v1/rules/{id}": Operation(_RULES, "Delete a rule", _NO_RULE),
    **_metadata_of("rule", _RULES, _NO_RULE, "/api/v1/rules/{id}/metadata"),
    "GET /api/v1/query": Operation(
        _QUERY,
        "Default values and rules, as clients poll them",
        {400: (TEXT,), 404: (TEXT,)},
        parameters=(
            Parameter("settings", "names of settings, joined by commas; all if left out"),
            Parameter(
                "context_filters",
                "which rules: * for all, else feature:* or feature:(value,value), joined by "
                "commas; a rule passes if all its conditions are on these",
            ),
            Parameter("include_metadata", "whether with the metadata of rules", bool),
            Parameter("If-None-Match", "ETags that the client has the answers of", place="header"),
        ),
        headers={200: _ETAG, 304: _ETAG},
    ),
}

# What a status means here, whatever the operation.
_MEANINGS: Mapping[int, str] = {
    200: "What was asked for, or how it went",
    201: "It was added",
    204: "It was done",
    304: "Nothing changed",
    400: "It does not fit what there is, or the body cannot be read",
    401: "No token that is known",
    404: "There is no such thing",
    409: "It is in conflict with what there is",
    413: "The body is too long",
    422: "Not what this operation takes",
    500: "The database does not answer",
    503: "The database is not available at the moment",
}
_HEADERS: Mapping[int, Mapping[str, str]] = {
    401: {"WWW-Authenticate": "the scheme of the token"},
    503: {"Retry-After": "seconds after which to come again"},
}

# What any operation may refuse: about the token, a body that is too long, the database.
_ALWAYS: Answers = {413: (types.Refused,), 503: (TEXT,)}
_WITH_TOKEN: Answers = {401: (types.Refused,)}


def document(
    version: str,
    answers: Mapping[str, Answers],
    *,
    root_path: str = "",
    with_token: bool = False,
) -> dict[str, Any]:
    """The document of a service.

    Args:
        version: the service's.
        answers: what the handlers answer if they refuse nothing, by method and path.
        root_path: the prefix of all paths, where it is a part of another application.
        with_token: whether it asks for one.
    """
    references, components = _schemas(OPERATIONS.values(), answers.values())
    paths: dict[str, _Schema] = {}
    for route, operation in OPERATIONS.items():
        method, _, path = route.partition(" ")
        asks = with_token and operation.tag != "health"
        more = [answers[route], _WITH_TOKEN] if asks else [answers[route]]
        paths.setdefault(path, {})[method.lower()] = _operation(
            path, operation, references, more
        ) | ({} if asks or not with_token else {"security": []})
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
    operations: Collection[Operation], answers: Iterable[Answers]
) -> tuple[dict[Any, _Schema], dict[str, Any]]:
    """By type the schema that refers to it, and what is referred to."""
    used: list[Any] = [types.Malformed, types.Refused]
    used += [kind for kind, _ in _IN_PATH.values()]
    for operation in operations:
        used += operation.body
        used += [parameter.type for parameter in operation.parameters]
    for each in (*answers, *(operation.refusals for operation in operations)):
        used += [kind for kinds in each.values() for kind in kinds if kind]
    distinct = list(dict.fromkeys(used))
    schemas, components = msgspec.json.schema_components(
        distinct, ref_template="#/components/schemas/{name}"
    )
    return dict(zip(distinct, schemas, strict=True)), components


def _operation(
    path: str, operation: Operation, references: Mapping[Any, _Schema], more: Iterable[Answers]
) -> _Schema:
    in_path = [name for name in _IN_PATH if f"{{{name}}}" in path]
    answers = defaultdict[int, tuple[_Body, ...]](tuple)
    for each in (*more, _ALWAYS, operation.refusals):
        for status, kinds in each.items():
            answers[status] += kinds
    if operation.body:
        answers[400] += (types.Refused,)
    if in_path or operation.body or operation.parameters:
        answers[422] += (types.Malformed,)
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
        for status, kinds in sorted(answers.items())
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
