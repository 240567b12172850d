"""A fast upstream without a model that speaks every dialect and misbehaves on demand: ``python -m headway.lab.scripted --port 9400``.

What it says follows from the request alone (``scripted_answer.py``); how it says it, from a Script (``scripted_script.py``).
Beside the dialects it serves ``POST /_script`` (queue one Script or a list; ``DELETE`` forgets them), ``GET /_seen`` (what it saw;
``?contains=``, ``?last=``, ``?bodies=0``; ``DELETE`` starts anew) and ``GET /health``.
"""

import argparse
import asyncio
import contextlib
import signal
import sys
from functools import partial
from urllib.parse import parse_qs

import msgspec

from headway.lab.scripted_recording import Recordings
from headway.lab.scripted_reply import Reply, error_reply, reply_to
from headway.lab.scripted_script import Script, ScriptError, ScriptQueue, directive_in, directive_of_model
from headway.lab.scripted_seen import Record, Seen
from headway.lab.scripted_send import Cut, is_simple, send, send_simple
from headway.lab.scripted_wire import Connection, Request

try:
    import uvloop
except ImportError:  # the same on the standard loop, slower
    uvloop = None  # type: ignore[assignment]

LISTEN_BACKLOG = 4_096


class _ModelOnly(msgspec.Struct):
    model: str = ""


_read_model = msgspec.json.Decoder(_ModelOnly).decode


class ScriptedUpstream:
    """All state of one running server. ``default`` is the Script of requests that bring none."""

    def __init__(self, *, default: Script | None = None, keep_records: bool = True) -> None:
        self.seen = Seen(keep=keep_records)
        self.queue = ScriptQueue()
        self.recordings = Recordings()
        self.default = default or Script()
        self._numbers = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def connection(self) -> Connection:
        self._numbers += 1
        self.seen.connections += 1
        return Connection(self._serve, self._opened_or_closed, self._numbers)

    def _opened_or_closed(self, change: int) -> None:
        self.seen.connections_open += change

    def _serve(self, connection: Connection, request: Request) -> None:
        if request.target.startswith("/_") or request.target == "/health":
            self._answer_now(connection, self._controlled(request))
            return
        record = self.seen.begin(request.method, request.target, request.headers, request.body, connection.number)
        try:
            script = self._script_of(request.body)
            reply = reply_to(request.method, request.target, request.headers, request.body, script, self.recordings)
        except ScriptError as error:
            script, reply = Script(), error_reply("openai-chat", 400, str(error))
        record.mark = script.mark
        if is_simple(reply, script):
            send_simple(connection, reply, record)
            self.seen.end(record, "done")
            connection.finished()
            return
        task = asyncio.get_running_loop().create_task(self._play(connection, reply, script, record))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        connection.on_gone = partial(self._peer_closed, task, record)

    def _peer_closed(self, task: asyncio.Task[None], record: Record) -> None:
        self.seen.end(record, "peer_closed")
        task.cancel()

    async def _play(self, connection: Connection, reply: Reply, script: Script, record: Record) -> None:
        try:
            again = await send(connection, reply, script, record)
        except Cut:
            self.seen.end(record, "cut")
            connection.on_gone = None
            if script.cut_how == "reset":
                connection.transport.abort()
            else:
                connection.transport.close()
            return
        self.seen.end(record, "done")
        connection.finished(close=not again)

    def _script_of(self, body: bytes) -> Script:
        if len(self.queue) and (queued := self.queue.take(body)) is not None:
            return queued
        if (directed := directive_in(body)) is not None:
            return directed
        if b"?" in body[:4096]:
            with contextlib.suppress(msgspec.DecodeError):
                return directive_of_model(_read_model(body).model) or self.default
        return self.default

    def _controlled(self, request: Request) -> Reply:
        path, _, query = request.target.partition("?")
        options = {name: values[-1] for name, values in parse_qs(query).items()}
        if path == "/health":
            return Reply(body=b'{"status":"ok"}')
        if path == "/_seen" and request.method == "GET":
            bodies = options.get("bodies", "1") != "0"
            return Reply(
                body=self.seen.report(last=int(options.get("last", "20")), contains=options.get("contains", ""), bodies=bodies)
            )
        if path == "/_seen" and request.method == "DELETE":
            self.seen.reset()
            return Reply(body=b"{}")
        if path == "/_script" and request.method == "DELETE":
            self.queue.clear()
            return Reply(body=b"{}")
        if path == "/_script" and request.method == "POST":
            return self._queue_scripts(request.body)
        return error_reply("openai-chat", 404, f"scripted upstream: no control route {request.method} {path}")

    def _queue_scripts(self, body: bytes) -> Reply:
        try:
            scripts = msgspec.json.decode(body, type=Script | list[Script])
        except msgspec.DecodeError as error:
            return error_reply("openai-chat", 400, f"scripted upstream: not a script: {error}")
        for script in scripts if isinstance(scripts, list) else [scripts]:
            self.queue.add(script)
        return Reply(body=b'{"queued":%d}' % len(self.queue))

    def _answer_now(self, connection: Connection, reply: Reply) -> None:
        send_simple(connection, reply, Record(epoch=0, at_ns=0, method="", target="", headers=[], body=b"", connection=0))
        connection.finished()


async def start(upstream: ScriptedUpstream, host: str = "127.0.0.1", port: int = 0) -> tuple[asyncio.Server, int]:
    """Listen; gives the server and its port."""
    server = await asyncio.get_running_loop().create_server(upstream.connection, host, port, backlog=LISTEN_BACKLOG)
    return server, server.sockets[0].getsockname()[1]


async def _run(host: str, port: int, default: Script, keep_records: bool) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    server, bound = await start(ScriptedUpstream(default=default, keep_records=keep_records), host, port)
    print(f"scripted upstream on http://{host}:{bound}", flush=True)
    await stop.wait()
    server.close()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m headway.lab.scripted", description="An upstream without a model, for demos and tests."
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=9400, help="0 picks a free one; the line printed at start names it")
    parser.add_argument("--delay-ms", type=float, default=0, help="pause before each event of a stream (25 reads like a model)")
    parser.add_argument("--head-delay-ms", type=float, default=0, help="pause before the first byte")
    parser.add_argument("--no-records", action="store_true", help="count requests, keep none")
    given = parser.parse_args(arguments)
    default = Script(delay_ms=given.delay_ms, head_delay_ms=given.head_delay_ms)
    try:
        (asyncio if uvloop is None else uvloop).run(_run(given.host, given.port, default, not given.no_records))
    except OSError as error:
        print(f"scripted upstream: cannot listen on {given.host}:{given.port}: {error.strerror}. Try --port 0.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
