"""Answers that a hostile service may give, of any size: the shapes of JSON that cost most.

Knows nothing of heksher.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

#: What an honest service answers, by path below ``/api/v1``. Other settings go on if ``other`` is 7.
HONEST = {
    "context_features": b'{"context_features":["user","env"]}',
    "settings": b'{"settings":[]}',
    "settings/declare": b'{"outcome":"created"}',
    "query": b'{"settings":{"other":{"default_value":7,"rules":[]},'
    b'"victim":{"default_value":"d","rules":[]}}}',
}

Make = Callable[[int], bytes]


@dataclass(frozen=True)
class Shape:
    """One kind of answer.

    Attributes:
        path: the path below ``/api/v1`` that is answered so.
        make: returns an answer of about so many bytes.
        is_local: whether only the setting ``victim`` is concerned, so that the setting ``other`` goes on.
    """

    path: str
    make: Make
    is_local: bool = False


def _filled(head: bytes, unit: bytes, tail: bytes) -> Make:
    """Repeat *unit*, and leave out a comma at the end."""

    def make(size: int) -> bytes:
        number = max(1, (size - len(head) - len(tail)) // len(unit))
        return head + (unit * number).removesuffix(b",") + tail

    return make


def _numbered(head: bytes, unit: bytes, tail: bytes) -> Make:
    """Repeat *unit* with numbers in it."""

    def make(size: int) -> bytes:
        left = size - len(head) - len(tail)
        parts: list[bytes] = []
        for number in itertools.count():
            parts.append(unit % number)
            left -= len(parts[-1]) + 1
            if left <= 0:
                return head + b",".join(parts) + tail
        raise AssertionError

    return make


def _nested(head: bytes, tail: bytes, opening: bytes = b"[", closing: bytes = b"]") -> Make:
    def make(size: int) -> bytes:
        depth = (size - len(head) - len(tail)) // (len(opening) + len(closing))
        return head + opening * depth + b"0" + closing * depth + tail

    return make


def _ints_that_collide(head: bytes, tail: bytes, first: int) -> Make:
    def make(size: int) -> bytes:
        parts: list[bytes] = []
        rule = b'{"value":%d,"context_features":[["user","%x"]],"rule_id":%d}'
        left = size
        for number in itertools.count(1):
            value = (first + number) * (2**61 - 1)
            parts += (rule % (value, 2 * number + each, number) for each in (0, 1))
            left -= 2 * len(parts[-1]) + 2
            if left <= 0:
                return head + b",".join(parts) + tail
        raise AssertionError

    return make


_OTHER = b'"other":{"default_value":7,"rules":[]}'
_SECTIONS = b'{"settings":{' + _OTHER + b","
_VICTIM = _SECTIONS + b'"victim":{"rules":['
_RULES_END = b'],"default_value":"d"}}}'
_DEFAULT = _SECTIONS + b'"victim":{"rules":[],"default_value":'
_VALUE = _VICTIM + b'{"rule_id":1,"context_features":[["user","u"]],"value":'
_VALUE_END = b"}" + _RULES_END
_SETTING = b'{"name":"a%x","type":"int","default_value":0,"version":"1.0"}'
_DECLARED = b'{"outcome":"uptodate","differences":['

SHAPES: dict[str, Shape] = {
    # Depth.
    "query: deep default value": Shape("query", _nested(_DEFAULT, b"}}}"), is_local=True),
    "query: deep value of a rule": Shape("query", _nested(_VALUE, _VALUE_END), is_local=True),
    "query: deep objects": Shape("query", _nested(_DEFAULT, b"}}}", b'{"a":', b"}"), is_local=True),
    "query: deep again and again": Shape(
        "query", _filled(_VALUE + b"[", b"[" * 250 + b"]" * 250 + b",", b"]" + _VALUE_END)
    ),
    "query: just too deep everywhere": Shape(
        "query", _filled(_VALUE + b"[" * 205, b"[],", b"]" * 205 + _VALUE_END)
    ),
    "query: nearly too deep": Shape(
        "query",
        _filled(_VALUE + b"[", b"[" * 200 + b"]" * 200 + b",", b"]" + _VALUE_END),
        is_local=True,
    ),
    # Width.
    "query: many sections": Shape("query", _numbered(_SECTIONS, b'"%x":0', b"}}")),
    "query: one section again and again": Shape("query", _filled(_SECTIONS, b'"zz":0,', b"}}")),
    "query: known section again and again": Shape(
        "query", _filled(_SECTIONS, b'"victim":{"rules":[],"default_value":"d"},', b"}}")
    ),
    "query: one field again and again": Shape(
        "query", _filled(_SECTIONS + b'"victim":{', b'"rules":0,', b',"rules":[]}}}'), is_local=True
    ),
    "query: unknown fields": Shape("query", _filled(b"{", b'"x":0,', b',"settings":{}}')),
    "query: unknown fields with escapes": Shape(
        "query", _filled(b"{", b'"\\n":0,', b',"settings":{}}')
    ),
    "query: rules are zeros": Shape("query", _filled(_VICTIM, b"0,", _RULES_END), is_local=True),
    "query: rules are empty lists": Shape(
        "query", _filled(_VICTIM, b"[],", _RULES_END), is_local=True
    ),
    "query: rules are empty objects": Shape(
        "query", _filled(_VICTIM, b"{},", _RULES_END), is_local=True
    ),
    "query: value of empty lists": Shape(
        "query", _filled(_VALUE + b"[", b"[],", b"]" + _VALUE_END), is_local=True
    ),
    "query: default value of empty objects": Shape(
        "query", _filled(_DEFAULT + b"[", b"{},", b"]}}}"), is_local=True
    ),
    "query: false ends of rules": Shape(
        "query", _filled(_VALUE + b'["', b"},{", b'"]' + _VALUE_END), is_local=True
    ),
    "query: many rules": Shape(
        "query",
        _numbered(
            _VICTIM, b'{"value":"","context_features":[["user","%x"]],"rule_id":1}', _RULES_END
        ),
        is_local=True,
    ),
    "query: many unusable rules": Shape(
        "query",
        _filled(_VICTIM, b'{"value":1,"context_features":[["user","1"]],"rule_id":1},', _RULES_END),
        is_local=True,
    ),
    "query: many unreadable rules": Shape(
        "query",
        _filled(_VICTIM, b'{"value":1,"context_features":5,"rule_id":1},', _RULES_END),
        is_local=True,
    ),
    "query: many conditions": Shape(
        "query",
        _filled(
            _VICTIM + b'{"value":"x","rule_id":1,"context_features":[',
            b'["user","u"],',
            b"]}" + _RULES_END,
        ),
        is_local=True,
    ),
    # Numbers.
    "query: ints that collide": Shape(
        "query", _ints_that_collide(_VICTIM, _RULES_END, 1 << 70), is_local=True
    ),
    "query: long numbers": Shape(
        "query", _filled(_VALUE + b"[", b"9" * 4_000 + b",", b"]" + _VALUE_END), is_local=True
    ),
    "query: one long number": Shape("query", _filled(_VALUE, b"9", _VALUE_END), is_local=True),
    "query: one long fraction": Shape(
        "query", _filled(_VALUE + b"0.", b"1", b"e5" + _VALUE_END), is_local=True
    ),
    # Strings.
    "query: long string": Shape("query", _filled(_DEFAULT + b'"', b"a", b'"}}}'), is_local=True),
    "query: escapes": Shape("query", _filled(_DEFAULT + b'"', b"\\u0041", b'"}}}'), is_local=True),
    "query: backslashes": Shape("query", _filled(_DEFAULT + b'"', b"\\\\", b'"}}}'), is_local=True),
    "query: escaped quotes and brackets": Shape(
        "query", _filled(_DEFAULT + b'"', b'\\"[', b'"}}}'), is_local=True
    ),
    "query: brackets in strings": Shape(
        "query", _filled(_VALUE + b"[", b'"[",', b"]" + _VALUE_END), is_local=True
    ),
    "query: white space": Shape("query", _filled(_DEFAULT, b" \n", b'"d"}}}'), is_local=True),
    # The other answers.
    "features: many": Shape(
        "context_features", _numbered(b'{"context_features":["user","env",', b'"f%x"', b"]}")
    ),
    "features: deep": Shape(
        "context_features", _nested(b'{"context_features":["user"],"x":', b"}")
    ),
    "features: empty": Shape("context_features", _filled(b'{"context_features":[', b'"",', b"]}")),
    "catalogue: zeros": Shape("settings", _filled(b'{"settings":[', b"0,", b"]}")),
    "catalogue: many settings": Shape("settings", _numbered(b'{"settings":[', _SETTING, b"]}")),
    "catalogue: many aliases": Shape(
        "settings",
        _numbered(b'{"settings":[' + _SETTING[:-1] % 1 + b',"aliases":[', b'"%x"', b"]}]}"),
    ),
    "catalogue: many settings with many aliases": Shape(
        "settings",
        _filled(
            b'{"settings":[',
            _SETTING[:-1] % 1
            + b',"aliases":['
            + b",".join(b'"%x"' % number for number in range(20_000))
            + b"]},",
            b"]}",
        ),
    ),
    "catalogue: deep metadata": Shape(
        "settings", _nested(b'{"settings":[' + _SETTING[:-1] % 1 + b',"metadata":{"a":', b"}}]}")
    ),
    "catalogue: wide metadata": Shape(
        "settings",
        _numbered(b'{"settings":[' + _SETTING[:-1] % 1 + b',"metadata":{', b'"%x":{}', b"}}]}"),
    ),
    "declare: many differences": Shape(
        "settings/declare", _filled(_DECLARED, b'{"level":"a"},', b"]}")
    ),
    "declare: deep": Shape(
        "settings/declare", _nested(_DECLARED + b'{"level":"a","latest_value":', b"}]}")
    ),
    "declare: wide": Shape(
        "settings/declare", _filled(_DECLARED + b'{"level":"a","latest_value":[', b"[],", b"]}]}")
    ),
}
