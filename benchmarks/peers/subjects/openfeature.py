"""OpenFeature with its in-memory provider, whose targeting is the function written by hand."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

from machinery.shapes import Shape

from peers.subjects import ENVIRONMENT, LookUps, arguments_of, by_name, current_of


def look_ups(shapes: Sequence[Shape]) -> LookUps:
    """Use one client, and make a context in each call that has arguments.

    A constant default is an attribute of the API's context, a context variable is one of the transaction's
    context, and an argument is one of the call's context.
    """
    api: Any = importlib.import_module("openfeature.api")
    context: Any = importlib.import_module("openfeature.evaluation_context").EvaluationContext
    provider: Any = importlib.import_module("openfeature.provider.in_memory_provider")
    transaction: Any = importlib.import_module("openfeature.transaction_context")
    flags = {
        name: provider.InMemoryFlag(
            "default", {"default": shape.default}, context_evaluator=evaluator_of(shape)
        )
        for name, shape in by_name(shapes).items()
    }
    api.set_provider_and_wait(provider.InMemoryProvider(flags))
    api.set_evaluation_context(context(attributes={"environment": ENVIRONMENT}))
    api.set_transaction_context_propagator(transaction.ContextVarsTransactionContextPropagator())
    api.set_transaction_context(context(attributes=current_of(shapes)))

    def statement(shape: Shape) -> str:
        kind = "integer" if isinstance(shape.default, int) else "string"
        arguments = arguments_of(shape)
        given = f", Context(attributes={arguments!r})" if arguments else ""
        return f"client.get_{kind}_value({shape.name!r}, {shape.default!r}{given})"

    return LookUps({"client": api.get_client(), "Context": context}, statement)


def evaluator_of(shape: Shape) -> Any:
    """Return the function that the provider calls for the setting of *shape*."""
    evaluation: Any = importlib.import_module("openfeature.flag_evaluation")
    feature = shape.features[-1]  # the one whose value is not constant

    def target(_flag: Any, context: Any) -> Any:
        return evaluation.FlagResolutionDetails(
            value=shape.floor(**{feature: context.attributes[feature]}),
            reason=evaluation.Reason.TARGETING_MATCH,
            variant="targeted",
        )

    return target
