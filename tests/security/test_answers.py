"""Answers have one reading too: whatever the application does, a client and h11 agree where each answer ends."""

import asyncio
from collections.abc import Callable
from typing import Any

import h11
import pytest

from headway.config.model import Limits
from headway.gateway.replies import reply_on

LAST = b"GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


async def by_reply(scope: Any, receive: Any, send: Any) -> None:
    """What the gateway's application does: through ``reply_on``, whole, streamed or empty."""
    while (await receive()).get("more_body"):
        pass
    reply, _ = reply_on(scope, send)
    await reply.start(200, [(b"content-type", b"text/plain")])
    if scope["path"] == "/streamed":
        await reply.send(b"one")
        await reply.send(b"two")
    await reply.end(b"" if scope["path"] == "/empty" else b"three")


async def by_send(scope: Any, receive: Any, send: Any) -> None:
    while (await receive()).get("more_body"):
        pass
    length = [] if scope["path"] == "/streamed" else [(b"content-length", b"0" if scope["path"] == "/empty" else b"5")]
    await send({"type": "http.response.start", "status": 200, "headers": length})
    if scope["path"] == "/streamed":
        await send({"type": "http.response.body", "body": b"onetwo", "more_body": True})
    await send({"type": "http.response.body", "body": b"" if scope["path"] == "/empty" else b"three"})


async def ask(port: int, data: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    async with asyncio.timeout(10):
        answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


def read_by_h11(methods: list[str], data: bytes) -> list[bytes]:
    """The bodies that a client sees, one for each request; every byte must belong to one of them."""
    connection = h11.Connection(h11.CLIENT)
    connection.receive_data(data)
    connection.receive_data(b"")
    bodies = []
    for number, method in enumerate(methods):
        if number:
            connection.start_next_cycle()
        connection.send(h11.Request(method=method, target="/", headers=[("host", "a")]))
        connection.send(h11.EndOfMessage())
        body = b""
        while not isinstance(event := connection.next_event(), h11.EndOfMessage):
            assert event is not h11.NEED_DATA
            if isinstance(event, h11.Data):
                body += bytes(event.data)
        bodies.append(body)
    assert connection.trailing_data[0] == b""
    return bodies


@pytest.mark.parametrize("app", [by_reply, by_send])
@pytest.mark.parametrize("path", ["/whole", "/streamed", "/empty"])
def test_each_answer_ends_where_its_client_thinks(app: Any, path: str, deploy: Callable[..., Any]) -> None:
    there = deploy(Limits(), app)
    methods = ["GET", "HEAD", "POST", "HEAD", "GET"]
    head = b" %b HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n" % path.encode()
    answer = asyncio.run(ask(there.port, b"".join(method.encode() + head for method in methods) + LAST))
    full = {"/whole": b"three", "/streamed": b"onetwothree", "/empty": b""}[path]
    expected = [b"" if method == "HEAD" else full for method in methods]
    assert read_by_h11([*methods, "GET"], answer) == [*expected, b"three"]


@pytest.mark.parametrize("value", [b"a\r\nx-evil: 1", b"a\nb", b"a\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"])
@pytest.mark.parametrize("direct", [True, False])
def test_a_header_of_an_answer_cannot_write_a_line(value: bytes, direct: bool, deploy: Callable[..., Any]) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if direct:
            reply, _ = reply_on(scope, send)
            await reply.start(200, [(b"x-from-upstream", value)])
            await reply.end(b"ok")
        else:
            await send({"type": "http.response.start", "status": 200, "headers": [(b"x-from-upstream", value)]})
            await send({"type": "http.response.body", "body": b"ok"})

    there = deploy(Limits(), app)
    answer = asyncio.run(ask(there.port, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"))
    assert b"evil" not in answer
    assert not answer.startswith(b"HTTP/1.1 200")
