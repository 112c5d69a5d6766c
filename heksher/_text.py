"""How text that strangers wrote is shown in messages and logs. Pure; knows nothing of this package."""

from __future__ import annotations


def excerpt(body: bytes, limit: int) -> str:
    """Return the beginning of *body* as `one_line` of text."""
    return one_line(body[:limit].decode("utf-8", "replace"), limit)


def one_line(text: str, limit: int = 500) -> str:
    """Return the beginning of *text* as one line that does no harm to a log or a terminal."""
    line = "".join(
        character if character.isprintable() else "\ufffd"
        for character in " ".join(text[:limit].split())
    )
    return line if len(text) <= limit else f"{line}…"
