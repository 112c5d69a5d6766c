"""Do what a client does with a setting once it has read rules."""

from __future__ import annotations

from types import CodeType, FunctionType
from typing import Any, TypeVar, cast

from heksher import Setting
from heksher._rules.contexts import Defaults
from heksher._rules.getter import Published
from heksher._rules.table import RuleTable
from heksher.setting import state_of

T = TypeVar("T")


def publish(
    setting: Setting[T],
    table: RuleTable[T],
    defaults: Defaults | None = None,
    *,
    started: bool = True,
) -> None:
    """Have *setting* answer from *table*."""
    state = state_of(setting)
    state.publish(state.prepare(table, defaults or Defaults(), started=started))


def published(setting: Setting[T]) -> Published[T]:
    """Return what *setting* answers from."""
    return state_of(setting).in_force


def code_of(setting: Setting[Any]) -> CodeType:
    """Return the code that `get` runs at this moment."""
    return cast(FunctionType, setting.get).__code__
