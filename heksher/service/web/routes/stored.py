"""What several resources do with what is stored: find it, replace it, send it as it is."""

from __future__ import annotations

import msgspec

from heksher.service.domain import limits
from heksher.service.domain.records import RuleRecord, SettingRecord
from heksher.service.domain.refusals import Refusal
from heksher.service.storage import Reader, Writer


def existing_setting(reader: Reader, name: str) -> SettingRecord:
    """The setting with this name or alias; 404 without one."""
    setting = reader.setting(name)
    if setting is None:
        raise Refusal(404, f"the setting {name} does not exist")
    return setting


def existing_rule(reader: Reader, rule_id: int) -> RuleRecord:
    """The rule with this id; 404 without one."""
    rule = reader.rule(rule_id)
    if rule is None:
        raise Refusal(404)
    return rule


def put_setting(writer: Writer, stored: SettingRecord, changed: SettingRecord) -> None:
    """Store *changed* in the place of *stored*, unless it is the same."""
    if changed is not stored:
        limits.check_setting(changed)
        writer.replace_setting(stored, changed)


def raw(json_text: str) -> msgspec.Raw:
    """Stored JSON, to be sent as it is."""
    return msgspec.Raw(json_text)
