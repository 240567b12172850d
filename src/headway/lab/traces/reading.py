"""Rows of a data file with their line numbers, so that a bad one is named where it stands."""

import csv
import gzip
import io
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from headway.kernel.errors import HeadwayError
from headway.kernel.limits import LAB_LINE_BYTES_MAX, LAB_ROWS_MAX

T = TypeVar("T")
DATA_VARIABLE: Final = "HEADWAY_DATA"


class TraceError(HeadwayError):
    """A file that cannot be used: which, which line, what is wrong with it."""

    def __init__(self, path: Path, line: int, problem: str) -> None:
        self.path, self.line, self.problem = path, line, problem
        super().__init__(f"{path.name}{f', line {line}' if line else ''}: {problem}")


class TraceMissing(TraceError):
    """A file that is not there."""


def traces_folder(given: str | Path | None = None) -> Path:
    """The folder of traces: in ``given``, else in $HEADWAY_DATA, else beside the checkout. It need not exist."""
    root = given or os.environ.get(DATA_VARIABLE) or Path(__file__).resolve().parents[5] / "shared" / "data"
    return Path(root) / "traces"


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines of a text file, gzip or plain. TraceMissing, TraceError."""
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else open(path, "rb") as file:
            number = 0
            while raw := file.readline(LAB_LINE_BYTES_MAX + 1):
                number += 1
                if len(raw) > LAB_LINE_BYTES_MAX:
                    raise TraceError(path, number, f"the line is longer than {LAB_LINE_BYTES_MAX:,} bytes")
                if number > LAB_ROWS_MAX:
                    raise TraceError(path, number, f"more than {LAB_ROWS_MAX:,} lines")
                yield number, raw.decode()
    except FileNotFoundError:
        raise TraceMissing(path, 0, f"is not in {path.parent}; set {DATA_VARIABLE} or give --data") from None
    except (OSError, EOFError, zlib.error) as error:
        raise TraceError(path, 0, f"cannot be read: {error}") from None
    except UnicodeDecodeError:
        raise TraceError(path, number, "is not UTF-8 text") from None


def table(path: Path, columns: tuple[str, ...]) -> Iterator["Row"]:
    """Rows of a CSV file that has ``columns``, in any order and perhaps others too."""
    head: list[str] | None = None
    for number, text in lines(path):
        cells = next(csv.reader(io.StringIO(text)), [])
        if head is None:
            head = cells
            missing = [name for name in columns if name not in head]
            if missing:
                raise TraceError(path, number, f"has no column {', '.join(missing)}; it has {', '.join(head)}")
            continue
        if not cells:
            continue
        if len(cells) != len(head):
            raise TraceError(path, number, f"has {len(cells)} cells where the heading has {len(head)}")
        yield Row(path, number, dict(zip(head, cells, strict=True)))
    if head is None:
        raise TraceError(path, 0, "is empty")


class Row:
    """One row of a CSV file; a cell that is not what it should be is a TraceError with the line."""

    __slots__ = ("_cells", "line", "path")

    def __init__(self, path: Path, line: int, cells: dict[str, str]) -> None:
        self.path, self.line, self._cells = path, line, cells

    def text(self, column: str) -> str:
        return self._cells[column]

    def whole(self, column: str, least: int = 0) -> int:
        """A whole number of at least ``least``."""
        text = self._cells[column]
        try:
            value = int(text)
        except ValueError:
            raise self.error(f"{column} is {text!r}, not a whole number") from None
        if value < least:
            raise self.error(f"{column} is {value}, less than {least}")
        return value

    def number(self, column: str, least: float = 0.0) -> float:
        """A finite number of at least ``least``."""
        text = self._cells[column]
        try:
            value = float(text)
        except ValueError:
            raise self.error(f"{column} is {text!r}, not a number") from None
        if not least <= value < float("inf"):
            raise self.error(f"{column} is {text}, not a finite number of at least {least:g}")
        return value

    def error(self, problem: str) -> TraceError:
        return TraceError(self.path, self.line, problem)


def records(path: Path, kind: type[T]) -> Iterator[tuple[int, T]]:
    """Numbered JSON lines as ``kind``."""
    decoder = msgspec.json.Decoder(kind)
    for number, text in lines(path):
        try:
            yield number, decoder.decode(text)
        except msgspec.MsgspecError as error:
            raise TraceError(path, number, str(error)) from None
