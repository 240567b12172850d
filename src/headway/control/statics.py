"""Static files read once at start: their address carries a hash of their content, so browsers keep them for good."""

import hashlib
import mimetypes
from importlib.resources.abc import Traversable

import msgspec
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

FOREVER = "public, max-age=31536000, immutable"
REVALIDATE = "no-cache"
HASH_CHARS = 12


class StaticFile(msgspec.Struct, frozen=True, kw_only=True):
    content: bytes
    media_type: str
    digest: str


def read_all(folder: Traversable) -> dict[str, StaticFile]:
    """Every file of the folder by name."""
    found = {}
    for entry in folder.iterdir():
        if entry.is_file():
            content = entry.read_bytes()
            media_type = mimetypes.guess_type(entry.name)[0] or "application/octet-stream"
            digest = hashlib.blake2b(content, digest_size=16).hexdigest()[:HASH_CHARS]
            found[entry.name] = StaticFile(content=content, media_type=media_type, digest=digest)
    return found


class Statics:
    """ASGI application for the files of one folder. Open to anybody: it holds nothing but what the package ships."""

    def __init__(self, folder: Traversable) -> None:
        self._files = read_all(folder)

    def address(self, name: str, base: str = "/static") -> str:
        """The address of a file, with its hash. ``KeyError`` for a file that is not there."""
        return f"{base}/{name}?h={self._files[name].digest}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        name = scope["path"].rpartition("/")[2]
        file = self._files.get(name)
        if file is None or scope["method"] not in ("GET", "HEAD"):
            await PlainTextResponse("there is no such file\n", 404)(scope, receive, send)
            return
        named = f"h={file.digest}".encode() == scope["query_string"]
        headers = {"cache-control": FOREVER if named else REVALIDATE, "etag": f'"{file.digest}"'}
        if Headers(scope=scope).get("if-none-match") == headers["etag"]:
            await Response(status_code=304, headers=headers)(scope, receive, send)
            return
        body = b"" if scope["method"] == "HEAD" else file.content
        await Response(body, headers=headers, media_type=file.media_type)(scope, receive, send)
