"""Texts that a database can keep: PostgreSQL takes no NUL, and UTF-8 knows no half surrogates."""

import re

from hurlicane_mcp.errors import Invalid

_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


def check_text(name: str, text: str) -> None:
    """Refuse a text of a caller that cannot be stored as it is.

    Raises:
        Invalid: the message names the field, the character and its place.
    """
    found = _UNSTORABLE.search(text)
    if found is not None:
        code = ord(found[0])
        raise Invalid(
            f"`{name}` holds the character U+{code:04X} at position {found.start()}, which cannot "
            "be stored. Remove it."
        )


def storable(text: str) -> str:
    """*text* with U+FFFD in the place of what cannot be stored, for the output of programs."""
    return _UNSTORABLE.sub("\ufffd", text)
