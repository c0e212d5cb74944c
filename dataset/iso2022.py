"""Code extension with ISO 2022 escape sequences as DICOM uses it (PS3.5 6.1.2.4, 6.1.2.5).

Text is a stream of bytes read through two code elements: bytes below 80H go through G0, bytes from
A0H through G1. An escape sequence designates a character set to one of them; a delimiter (``^`` and
``=`` in a PN, the backslash between values, TAB, LF, FF, CR) takes both back to the first value of
Specific Character Set.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

ESCAPE = 0x1B
CONTROL_RESETS = frozenset(b"\t\n\f\r")
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"

# PS3.3 Tables C.12-2 to C.12-4: character set -> Python codec of its G1 (bytes with the high bit)
SINGLE_BYTE = {
    "100": "iso8859_1",
    "101": "iso8859_2",
    "109": "iso8859_3",
    "110": "iso8859_4",
    "126": "iso8859_7",
    "127": "iso8859_6",
    "138": "iso8859_8",
    "144": "iso8859_5",
    "148": "iso8859_9",
    "166": "iso8859_11",
    "203": "iso8859_15",
    "13": "shift_jis",
}

# escape sequence -> (code element, character set); set 6 is ASCII, 14 the romaji of JIS X 0201
ESCAPES: dict[bytes, tuple[str, str]] = {
    b"\x1b(B": ("G0", "6"),
    b"\x1b(J": ("G0", "14"),
    b"\x1b)I": ("G1", "13"),
    b"\x1b-A": ("G1", "100"),
    b"\x1b-B": ("G1", "101"),
    b"\x1b-C": ("G1", "109"),
    b"\x1b-D": ("G1", "110"),
    b"\x1b-F": ("G1", "126"),
    b"\x1b-G": ("G1", "127"),
    b"\x1b-H": ("G1", "138"),
    b"\x1b-L": ("G1", "144"),
    b"\x1b-M": ("G1", "148"),
    b"\x1b-T": ("G1", "166"),
    b"\x1b-b": ("G1", "203"),
    b"\x1b$@": ("G0", "87"),  # JIS C 6226-1978, the older edition of IR 87
    b"\x1b$B": ("G0", "87"),
    b"\x1b$(D": ("G0", "159"),
    b"\x1b$)A": ("G1", "58"),
    b"\x1b$)C": ("G1", "149"),
}
_DESIGNATION = {
    **{name: sequence for sequence, (_, name) in reversed(ESCAPES.items())},
    "87": b"\x1b$B",
}
_G0_SETS = frozenset({"6", "14", "87", "159"})
_TWO_BYTE_G1 = {"58": "gb18030", "149": "euc_kr"}


@dataclass(frozen=True, slots=True)
class Decoding:
    """Text, and whether the bytes kept to their declaration in every place."""

    text: str
    faithful: bool


def initial_sets(charsets: tuple[str, ...]) -> tuple[str, str | None]:
    """G0 and G1 as the first value of Specific Character Set designates them (bare numbers)."""
    first = charsets[0] if charsets else "6"
    if first == "13":
        return "14", "13"
    if first in SINGLE_BYTE or first in _TWO_BYTE_G1:
        return "6", first
    return "6", None


def decode(raw: bytes, charsets: tuple[str, ...], resets: frozenset[int]) -> Decoding:
    """Decode bytes with escape sequences.

    `charsets` are the bare ISO-IR numbers of the declaration in order ('6' for the default
    repertoire), `resets` the bytes that end a designation. Undeclared sets and sets not designated
    again after a delimiter are understood, and make the result not faithful.
    """
    return _Decoder(raw, charsets, resets).run()


class _Decoder:
    def __init__(self, raw: bytes, charsets: tuple[str, ...], resets: frozenset[int]) -> None:
        self._raw = raw
        self._declared = frozenset(charsets) | {"6", "14"}
        self._resets = resets
        self._initial = initial_sets(charsets)
        self._g0, self._g1 = self._initial
        # a sender that forgets the second escape sequence of a name means the set it used before
        self._habit = next((name for name in charsets if name in _TWO_BYTE_G1), None)
        self._faithful = True

    def run(self) -> Decoding:
        out: list[str] = []
        at, end = 0, len(self._raw)
        while at < end:
            byte = self._raw[at]
            if byte == ESCAPE:
                at = self._escape(at)
            elif byte >= 0x80:
                text, at = self._high(at)
                out.append(text)
            else:
                text, at = self._low(at)
                out.append(text)
        return Decoding("".join(out), self._faithful)

    def _escape(self, at: int) -> int:
        for length in (3, 4):
            found = ESCAPES.get(self._raw[at : at + length])
            if found is None:
                continue
            element, name = found
            if element == "G0":
                self._g0 = name
            else:
                self._g1 = name
                if name in _TWO_BYTE_G1:
                    self._habit = name
            self._faithful = self._faithful and name in self._declared
            return at + length
        self._faithful = False  # an unknown sequence: the lone ESC is dropped, its letters stay
        return at + 1

    def _low(self, at: int) -> tuple[str, int]:
        byte = self._raw[at]
        if self._g0 in ("87", "159") and 0x21 <= byte <= 0x7E:
            pair = self._raw[at : at + 2]
            if len(pair) == 2 and 0x21 <= pair[1] <= 0x7E:
                return self._jis(pair), at + 2
            self._faithful = False
        if byte in self._resets:
            self._g0, self._g1 = self._initial
        return chr(byte), at + 1

    def _jis(self, pair: bytes) -> str:
        shifted = bytes((pair[0] | 0x80, pair[1] | 0x80))
        return self._codec(shifted if self._g0 == "87" else b"\x8f" + shifted, "euc_jp")

    def _high(self, at: int) -> tuple[str, int]:
        end = at + 1
        while end < len(self._raw) and self._raw[end] >= 0x80:
            end += 1
        name = self._g1
        if name is None and self._habit is not None:
            self._faithful = False
            name = self._habit
        if name is None:
            self._faithful = False
            return REPLACEMENT * (end - at), end
        if name in _TWO_BYTE_G1:
            return self._two_byte(name, at, end)
        table = high_table(name)
        text = "".join(table[byte - 0x80] for byte in self._raw[at:end])
        self._faithful = self._faithful and REPLACEMENT not in text
        return text, end

    def _two_byte(self, name: str, at: int, end: int) -> tuple[str, int]:
        run = self._raw[at:end]
        if len(run) % 2 == 0 and (name == "149" or min(run) >= 0xA1):
            return self._codec(run, _TWO_BYTE_G1[name]), end
        if name == "149":
            return self._codec(run, "cp949"), end
        return self._gb(at)

    def _gb(self, at: int) -> tuple[str, int]:
        """GBK and four-byte characters that senders put where only GB 2312 is allowed."""
        self._faithful = False
        out: list[str] = []
        while at < len(self._raw) and self._raw[at] >= 0x80:
            for length in (2, 4):
                try:
                    out.append(self._raw[at : at + length].decode("gb18030"))
                except UnicodeDecodeError:
                    continue
                at += length
                break
            else:
                out.append(REPLACEMENT)
                at += 1
        return "".join(out), at

    def _codec(self, data: bytes, codec: str) -> str:
        try:
            return data.decode(codec)
        except UnicodeDecodeError:
            self._faithful = False
            return data.decode(codec, "replace")


@lru_cache(maxsize=32)
def high_table(name: str) -> tuple[str, ...]:
    """The characters of bytes 80H to FFH in a single-byte set; U+FFFD where it has none."""
    codec = SINGLE_BYTE[name]
    table = [bytes((byte,)).decode(codec, "replace") for byte in range(0x80, 0x100)]
    if name == "13":  # of what the codec knows only half-width katakana are this set
        table = [char if "｡" <= char <= "ﾟ" else REPLACEMENT for char in table]
    return tuple(table)


# ---------------------------------------------------------------------------------------- encoding


def encode(text: str, charsets: tuple[str, ...], resets: frozenset[int]) -> bytes | None:
    """Encode with the fewest escape sequences; None when a character is in none of the sets.

    The result ends, and meets every delimiter, in the initial state of G0 (PS3.5 6.1.2.5.3).
    """
    out = bytearray()
    for piece, delimiter in _pieces(text, resets):
        encoded = _encode_piece(piece, charsets)
        if encoded is None:
            return None
        out += encoded
        out += delimiter.encode("ascii")
    return bytes(out)


def _pieces(text: str, resets: frozenset[int]) -> Iterator[tuple[str, str]]:
    start = 0
    for at, char in enumerate(text):
        if ord(char) in resets:
            yield text[start:at], char
            start = at + 1
    yield text[start:], ""


def _encode_piece(piece: str, charsets: tuple[str, ...]) -> bytes | None:
    initial = initial_sets(charsets)
    state: dict[str, str | None] = {"G0": initial[0], "G1": initial[1]}
    order = _encoding_order(charsets)
    out = bytearray()
    for char in piece:
        for name in order:
            code = _encode_char(char, name)
            if code is None:
                continue
            element = "G0" if name in _G0_SETS else "G1"
            if state[element] != name:
                out += _DESIGNATION[name]
                state[element] = name
            out += code
            break
        else:
            return None
    if state["G0"] != initial[0]:
        out += _DESIGNATION[initial[0]]
    return bytes(out)


@lru_cache(maxsize=64)
def _encoding_order(charsets: tuple[str, ...]) -> tuple[str, ...]:
    g0, g1 = initial_sets(charsets)
    order = [g0, *([g1] if g1 else []), *(name for name in charsets if name != "6")]
    if g0 != "6" and len(charsets) > 1:
        order.append("6")  # ASCII beside JIS X 0201 needs code extensions
    return tuple(dict.fromkeys(order))


@lru_cache(maxsize=4096)
def _encode_char(char: str, name: str) -> bytes | None:
    """One character as bytes of `name` in the code element it is designated to, or None."""
    code = ord(char)
    if name in ("6", "14"):
        same = code < 0x80 and not (name == "14" and char == "~")
        return bytes((code,)) if same else None
    if code < 0x80:
        return None
    try:
        if name in ("87", "159"):
            return _encode_jis(char.encode("euc_jp"), name)
        if name in _TWO_BYTE_G1:
            data = char.encode(_TWO_BYTE_G1[name])
            return data if len(data) == 2 and _is_94_by_94(data, name) else None
    except UnicodeEncodeError:
        return None
    table = high_table(name)
    return bytes((0x80 + table.index(char),)) if char in table else None


def _encode_jis(data: bytes, name: str) -> bytes | None:
    if name == "87" and len(data) == 2 and data[0] >= 0xA1:
        return bytes(byte & 0x7F for byte in data)
    if name == "159" and len(data) == 3:
        return bytes(byte & 0x7F for byte in data[1:])
    return None


def _is_94_by_94(data: bytes, name: str) -> bool:
    if min(data) < 0xA1:
        return False
    # GB 2312 has rows 1 to 9 and 16 to 87; what GB 18030 adds between and behind is not in it
    row = data[0] - 0xA0
    return name != "58" or row <= 9 or 16 <= row <= 87
