"""LaunchDarkly's SDK for servers, with the data source that its documentation has for offline use."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

from machinery.shapes import Shape

from peers.subjects import LookUps, arguments_of, by_name, current_of, kept, rules_of


def look_ups(shapes: Sequence[Shape]) -> LookUps:
    """Use one client, and make the context, whose key is the user, in each call.

    For a call without arguments, the context is made before, as for a request, and kept in a context
    variable.
    """
    ldclient: Any = importlib.import_module("ldclient")
    config: Any = importlib.import_module("ldclient.config").Config
    test_data: Any = importlib.import_module("ldclient.integrations.test_data").TestData
    source = test_data.data_source()
    for shape in by_name(shapes).values():
        source.update(flag_of(source, shape))
    client = ldclient.LDClient(
        config("no-key", update_processor_class=source, send_events=False), start_wait=5
    )
    if not client.is_initialized():
        raise AssertionError("the client is not ready")
    builder = ldclient.Context.builder("somebody")
    for feature, value in current_of(shapes).items():
        builder.set(feature, value)
    names = {
        "client": client,
        "Context": ldclient.Context,
        "current": kept(builder.build()),
    }

    def statement(shape: Shape) -> str:
        arguments = arguments_of(shape)
        context = f"Context.create({arguments['user']!r})" if arguments else "current.get()"
        return f"client.variation({shape.name!r}, {context}, {shape.default!r})"

    return LookUps(names, statement)


def flag_of(source: Any, shape: Shape) -> Any:
    """Return the flag for the setting of *shape*; users are individual targets."""
    values = list(dict.fromkeys([shape.default, *(value for _, _, value in rules_of(shape))]))
    flag = source.flag(shape.name).variations(*values).fallthrough_variation(0)
    for feature, wanted, value in rules_of(shape):
        number = values.index(value)
        if feature == "user":
            flag = flag.variation_for_user(wanted, number)
        else:
            flag = flag.if_match(feature, wanted).then_return(number)
    return flag
