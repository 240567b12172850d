"""Answers written down by hand, one file each, in the form in which HTTP carries them: a status line, headers, a blank line, the body.

``recorded/<dialect>/<name>.http`` answers a plain request, ``<name>.stream.http`` a streamed one; when only one of them exists it
answers both (an error before the stream is one and the same). Lines of the head end in LF; the body is sent byte for byte.
"""

import re
from pathlib import Path

import msgspec

RECORDED = Path(__file__).parent / "recorded"
_NAME = re.compile(r"[a-z0-9_]{1,60}")
_EVENT_END = re.compile(rb"(?<=\n)\r?\n|(?<=\r\n)\r\n")


class NoRecording(LookupError):
    """No file of that name in that dialect. ``str()`` names those that there are."""


class Recording(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    status: int
    content_type: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def events(self) -> list[bytes]:
        """The body at its blank lines; joined it is the body again."""
        out, at = [], 0
        for end in _EVENT_END.finditer(self.body):
            out.append(self.body[at : end.end()])
            at = end.end()
        return [*out, self.body[at:]] if at < len(self.body) else out


class Recordings:
    """The files below one folder, read when first asked for."""

    def __init__(self, folder: Path = RECORDED) -> None:
        self._folder = folder
        self._read: dict[Path, Recording] = {}

    def names(self, dialect: str) -> list[str]:
        files = (self._folder / dialect).glob("*.http")
        return sorted({file.name.removesuffix(".http").removesuffix(".stream") for file in files})

    def find(self, dialect: str, name: str, *, streamed: bool) -> Recording:
        if _NAME.fullmatch(name):
            for ending in (".stream.http", ".http") if streamed else (".http", ".stream.http"):
                file = self._folder / dialect / (name + ending)
                if file in self._read or file.is_file():
                    if file not in self._read:
                        self._read[file] = parse(name, file.read_bytes())
                    return self._read[file]
        raise NoRecording(f"no recording {name!r} in {dialect}; there are: {', '.join(self.names(dialect))}")


def parse(name: str, data: bytes) -> Recording:
    """Raises ValueError when the head is not one."""
    head, blank, body = data.partition(b"\n\n")
    first, *lines = head.decode("latin-1").split("\n")
    protocol, _, status = first.partition(" ")
    if not blank or protocol != "HTTP/1.1" or not status[:3].isdigit():
        raise ValueError(f"recording {name}: the first line must be a status line and a blank line must end the head")
    pairs = [(k.strip().lower(), v.strip()) for k, _, v in (line.partition(":") for line in lines)]
    return Recording(
        name=name,
        status=int(status[:3]),
        content_type=dict(pairs).get("content-type", "application/json"),
        headers=tuple((k, v) for k, v in pairs if k != "content-type"),
        body=body,
    )
