"""Mobile numbers of the mainland, as people type them and as they may be shown."""

from __future__ import annotations

import re

from kernel.errors import Invalid

# 13x to 19x, eleven digits (MIIT numbering plan).
_NUMBER = re.compile(r"1[3-9]\d{9}", re.ASCII)
_FILLERS = re.compile(r"[\s\-()（）]")


def check_number(text: str) -> str:
    """Eleven digits of what was typed, with or without +86, 0086 or 86.

    Raises Invalid `sms.number`, whose message does not repeat what was typed.
    """
    plain = _FILLERS.sub("", text.translate(_WIDE))
    for prefix in ("+86", "0086", "86"):
        if plain.startswith(prefix) and len(plain) == len(prefix) + 11:
            plain = plain.removeprefix(prefix)
            break
    if not _NUMBER.fullmatch(plain):
        raise Invalid("sms.number", "This is not a mobile number of eleven digits.")
    return plain


def masked(number: str) -> str:
    """As it may be shown: 138****1234."""
    return f"{number[:3]}****{number[-4:]}"


# Digits and plus as Chinese input methods also type them.
_WIDE = str.maketrans("０１２３４５６７８９＋", "0123456789+")
