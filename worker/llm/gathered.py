"""Text that comes in pieces. Pure."""

from __future__ import annotations

_JOIN_AT = 1024  # pieces: each costs some 60 bytes beside its text, and a long answer has tens of thousands


class Gathered:
    """The pieces of one text, as they are shown and as a whole.

    Servers that count in UTF-16 cut characters in two: the first half is held until the second one comes.
    """

    __slots__ = ("_half", "_pieces")

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._half = ""

    def __bool__(self) -> bool:
        return bool(self._pieces) or bool(self._half)

    def add(self, piece: str) -> str:
        """Take a piece in; return what can be shown of it, which may be nothing yet."""
        if self._half and piece:
            joined = self._half + piece[:1]
            self._half = ""
            first = joined.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
            piece = first + piece[1:]
        if piece and "\ud800" <= piece[-1] <= "\udbff":
            self._half, piece = piece[-1], piece[:-1]
        if piece:
            self._pieces.append(piece)
            if len(self._pieces) >= _JOIN_AT:
                self._pieces = ["".join(self._pieces)]
        return piece

    def whole(self) -> str:
        """Return the text; half a character at its end is none."""
        return "".join(self._pieces)
