"""Which line of a TOML file a key stands on, so that an error can say ``headway.toml:31``. The standard parser keeps no places.

Runs only over text that ``tomllib`` has accepted, so it may assume valid TOML and need not report mistakes. It understands
table headers, arrays of tables, dotted and quoted keys, inline tables, arrays, comments and all four kinds of string.
"""

from typing import Final

Path = tuple[str | int, ...]
"""Keys and, inside arrays, indexes from 0: ``("features", "chat", "targets", 1)``."""

_ESCAPES: Final = {"b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r", '"': '"', "\\": "\\", "e": "\x1b"}


def locate(text: str) -> dict[Path, int]:
    """Line numbers, from 1, of every table, key and array element. A table written in pieces stands where it was first named."""
    return _Scanner(text.replace("\r\n", "\n")).run()


class _Scanner:
    """One pass over the text. ``_at`` is the offset, ``_line`` the line number there."""

    def __init__(self, text: str) -> None:
        self._text, self._at, self._line = text, 0, 1
        self._lines: dict[Path, int] = {}
        self._array_sizes: dict[Path, int] = {}

    def run(self) -> dict[Path, int]:
        table: Path = ()
        while self._skip_blank():
            table = self._header() if self._peek() == "[" else self._pair(table)
        return self._lines

    def _header(self) -> Path:
        line, is_array = self._line, self._text.startswith("[[", self._at)
        self._advance(2 if is_array else 1)
        keys = self._keys()
        self._skip_blank()
        self._advance(2 if is_array else 1)
        path: Path = (*self._resolve(keys[:-1]), keys[-1])
        if is_array:
            index = self._array_sizes.get(path, 0)
            self._array_sizes[path] = index + 1
            self._note(path, line)
            path = (*path, index)
        else:
            path = self._resolve(keys)
        for depth in range(1, len(path) + 1):
            self._note(path[:depth], line)
        return path

    def _resolve(self, keys: tuple[str, ...]) -> Path:
        """``[a.b]`` under ``[[a]]`` means the last element of a."""
        path: Path = ()
        for key in keys:
            path = (*path, key)
            if path in self._array_sizes:
                path = (*path, self._array_sizes[path] - 1)
        return path

    def _pair(self, table: Path) -> Path:
        """``key = value``; returns the table, so that it stays the current one."""
        line, keys = self._line, self._keys()
        for depth in range(1, len(keys) + 1):
            self._note(table + keys[:depth], line)
        self._skip_blank()
        self._advance(1)  # =
        self._skip_blank()
        self._value(table + keys)
        return table

    def _value(self, path: Path) -> None:
        char = self._peek()
        if char in "\"'":
            self._string()
        elif char == "[":
            self._array(path)
        elif char == "{":
            self._inline_table(path)
        else:
            while self._peek() not in ",]}#\n" and self._at < len(self._text):
                self._advance(1)

    def _array(self, path: Path) -> None:
        self._advance(1)
        index = 0
        while self._skip_blank() and self._peek() != "]":
            self._note((*path, index), self._line)
            self._value((*path, index))
            index += 1
            self._skip_blank()
            if self._peek() == ",":
                self._advance(1)
        self._advance(1)

    def _inline_table(self, path: Path) -> None:
        self._advance(1)
        while self._skip_blank() and self._peek() != "}":
            self._pair(path)
            self._skip_blank()
            if self._peek() == ",":
                self._advance(1)
        self._advance(1)

    def _keys(self) -> tuple[str, ...]:
        keys: list[str] = []
        while True:
            self._skip_blank()
            keys.append(self._string() if self._peek() in "\"'" else self._bare_key())
            self._skip_blank()
            if self._peek() != ".":
                return tuple(keys)
            self._advance(1)

    def _bare_key(self) -> str:
        start = self._at
        while self._peek().isalnum() or self._peek() in ("-", "_"):
            self._advance(1)
        return self._text[start : self._at]

    def _string(self) -> str:
        quote = self._peek()
        if self._text.startswith(quote * 3, self._at):
            return self._long_string(quote)
        self._advance(1)
        out: list[str] = []
        while (char := self._peek()) != quote:
            if char == "\\" and quote == '"':
                out.append(self._escape())
            else:
                out.append(char)
                self._advance(1)
        self._advance(1)
        return "".join(out)

    def _long_string(self, quote: str) -> str:
        """Only a value, so its content does not matter; up to two quotes may stand before the closing three."""
        self._advance(3)
        while not self._text.startswith(quote * 3, self._at):
            self._advance(2 if self._peek() == "\\" and quote == '"' else 1)
        while self._peek() == quote:
            self._advance(1)
        return ""

    def _escape(self) -> str:
        kind = self._text[self._at + 1]
        width = {"x": 2, "u": 4, "U": 8}.get(kind, 0)
        digits = self._text[self._at + 2 : self._at + 2 + width]
        self._advance(2 + width)
        return chr(int(digits, 16)) if width else _ESCAPES[kind]

    def _skip_blank(self) -> bool:
        """Past spaces, line ends and comments; whether anything is left."""
        while self._at < len(self._text):
            char = self._peek()
            if char == "#":
                while self._peek() not in ("\n", ""):
                    self._advance(1)
            elif char in " \t\n\r":
                self._advance(1)
            else:
                return True
        return False

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _advance(self, count: int) -> None:
        self._line += self._text.count("\n", self._at, self._at + count)
        self._at += count

    def _note(self, path: Path, line: int) -> None:
        self._lines.setdefault(path, line)
