"""Talks to control's HTTP API with the owner's token from the state folder, or with ``HEADWAY_TOKEN``."""

import http.client
import json
import os
from collections.abc import Iterator
from typing import Any, Final, TypeVar
from urllib.parse import urlencode, urlsplit

import click
import msgspec

from headway.cli.trouble import MISSING, NOT_AS_WANTED, Trouble
from headway.config.addresses import reach
from headway.config.load import Loaded

T = TypeVar("T")
TIMEOUT_S: Final = 30.0
STREAM_TIMEOUT_S: Final = 45.0  # control sends a comment every 15 s


class Control:
    """The API of one control process. ``HEADWAY_CONTROL_URL`` names another one than the configuration does."""

    def __init__(self, loaded: Loaded) -> None:
        self.url = os.environ.get("HEADWAY_CONTROL_URL", "").rstrip("/") or reach(loaded.settings.control.listen)
        self._token_file = loaded.state_dir / "control.token"

    def get(self, path: str, kind: type[T], **query: str | int | None) -> T:
        """Read one thing. Raises Trouble."""
        return msgspec.json.decode(self._ask("GET", path + _query(query)), type=kind, strict=False)

    def fetch(self, path: str, **query: str | int | None) -> bytes:
        """Read a file. Raises Trouble."""
        return self._ask("GET", path + _query(query))

    def post(self, path: str, body: object, kind: type[T]) -> T:
        return msgspec.json.decode(self._ask("POST", path, body), type=kind, strict=False)

    def patch(self, path: str, body: object, kind: type[T]) -> T:
        return msgspec.json.decode(self._ask("PATCH", path, body), type=kind, strict=False)

    def delete(self, path: str, kind: type[T]) -> T:
        return msgspec.json.decode(self._ask("DELETE", path), type=kind, strict=False)

    def events(self, path: str, **query: str | int | None) -> Iterator[tuple[str, str]]:
        """Server-sent events as (name, data), until control ends the stream. Raises Trouble when it breaks."""
        connection, response = self._open("GET", path + _query(query), None, STREAM_TIMEOUT_S)
        name = ""
        data: list[str] = []
        try:
            for line in response:
                text = line.decode("utf-8", "replace").rstrip("\r\n")
                if not text:
                    if data:
                        yield name, "\n".join(data)
                    name, data = "", []
                elif text.startswith("event:"):
                    name = text[6:].strip()
                elif text.startswith("data:"):
                    data.append(text[5:].removeprefix(" "))
        except (OSError, http.client.HTTPException) as error:
            raise self._away(error) from None
        finally:
            connection.close()

    def _ask(self, method: str, path: str, body: object = None) -> bytes:
        connection, response = self._open(method, path, body, TIMEOUT_S)
        try:
            return response.read()
        except (OSError, http.client.HTTPException) as error:
            raise self._away(error) from None
        finally:
            connection.close()

    def _open(
        self, method: str, path: str, body: object, timeout_s: float
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        parts = urlsplit(self.url)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        connection = kind(parts.hostname or "", parts.port, timeout=timeout_s)
        headers = {"authorization": f"Bearer {self._token()}", "accept": "application/json, text/event-stream"}
        if body is not None:
            headers["content-type"] = "application/json"
        try:
            connection.request(method, parts.path + path, msgspec.json.encode(body) if body is not None else None, headers)
            response = connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise self._away(error) from None
        if response.status >= 400:
            problem = _refusal(response)
            connection.close()
            raise problem
        return connection, response

    def _token(self) -> str:
        if token := os.environ.get("HEADWAY_TOKEN", ""):
            return token
        try:
            return self._token_file.read_text().strip()
        except FileNotFoundError:
            why = f"there is no {self._token_file}: control has not been started with this state folder"
            raise Trouble("control's token cannot be read", why, "headway serve, or set HEADWAY_TOKEN", MISSING) from None
        except OSError as error:
            fix = "run this as the user that runs headway, or set HEADWAY_TOKEN to a key with a role"
            raise Trouble("control's token cannot be read", f"{self._token_file}: {error.strerror}", fix, MISSING) from None

    def _away(self, error: Exception) -> Trouble:
        return Trouble(
            f"control does not answer at {self.url}", str(error) or type(error).__name__, "headway serve starts it", MISSING
        )


def _query(query: dict[str, str | int | None]) -> str:
    given = {name: value for name, value in query.items() if value not in (None, "")}
    return "?" + urlencode(given) if given else ""


def _refusal(response: http.client.HTTPResponse) -> click.ClickException:
    try:
        error: dict[str, Any] = json.loads(response.read(64 * 1024))["error"]
        return Trouble(
            str(error["message"]), f"control answered {response.status} {error['code']}", str(error.get("fix") or "headway --help")
        )
    except (ValueError, KeyError, TypeError, OSError, http.client.HTTPException):
        fix = "look into control.log in the state folder"
        return Trouble("control refused", f"it answered {response.status} {response.reason}", fix, NOT_AS_WANTED)
