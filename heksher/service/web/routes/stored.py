"""Helpers that several routes need to find, replace and send stored settings and rules."""

from __future__ import annotations

import msgspec

from heksher.service.domain import limits
from heksher.service.domain.records import RuleRecord, SettingRecord
from heksher.service.domain.refusals import Refusal
from heksher.service.storage import Reader, Writer


def existing_setting(reader: Reader, name: str) -> SettingRecord:
    """Return the setting with this name or alias, or refuse with 404."""
    setting = reader.setting(name)
    if setting is None:
        raise Refusal(404, f"the setting {name} does not exist")
    return setting


def existing_rule(reader: Reader, rule_id: int) -> RuleRecord:
    """Return the rule with this id, or refuse with 404."""
    rule = reader.rule(rule_id)
    if rule is None:
        raise Refusal(404)
    return rule


def put_setting(writer: Writer, stored: SettingRecord, changed: SettingRecord) -> None:
    """Replace *stored* by *changed*, unless they are the same object."""
    if changed is not stored:
        limits.check_setting(changed)
        writer.replace_setting(stored, changed)


def raw(json_text: str) -> msgspec.Raw:
    """Wrap stored JSON text to be sent unchanged."""
    return msgspec.Raw(json_text)
