"""The upstream of the benchmark: raw asyncio, answers made before the first request, so that it costs little and always the same.

The model's name says what comes: ``bench-plain`` (a whole answer of about 700 bytes), ``bench-burst`` (BURST_CHUNKS events, each a write
of its own, as fast as they go), ``bench-paced`` (PACED_CHUNKS events, one every PACED_MS).
"""

import argparse
import asyncio
import json
import socket

try:
    import uvloop
except ImportError:
    uvloop = None

BURST_CHUNKS = 400
PACED_CHUNKS = 40
PACED_MS = 20


def _chunk(delta: dict, finish: str | None = None, **more) -> bytes:
    body = {
        "id": "chatcmpl-bench",
        "object": "chat.completion.chunk",
        "created": 1764000000,
        "model": "bench",
        "system_fingerprint": "fp_bench",
        "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}],
        **more,
    }
    event = b"data: " + json.dumps(body, separators=(",", ":")).encode() + b"\n\n"
    return b"%x\r\n%b\r\n" % (len(event), event)


USAGE = {"prompt_tokens": 20, "completion_tokens": 40, "total_tokens": 60}
PLAIN_BODY = json.dumps(
    {
        "id": "chatcmpl-bench",
        "object": "chat.completion",
        "created": 1764000000,
        "model": "bench",
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": "word " * 80}, "logprobs": None, "finish_reason": "stop"}
        ],
        "usage": USAGE,
    }
).encode()
PLAIN = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(PLAIN_BODY), PLAIN_BODY)
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
FIRST = _chunk({"role": "assistant", "content": ""})
WORD = _chunk({"content": "word "})
LAST = _chunk({}, "stop") + _chunk({}, usage=USAGE).replace(
    b'"choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":null}]', b'"choices":[]'
)
# The usage chunk was shortened: frame it anew.
_usage_event = LAST[len(_chunk({}, "stop")) :].partition(b"\r\n")[2][:-2]
LAST = _chunk({}, "stop") + b"%x\r\n%b\r\n" % (len(_usage_event), _usage_event) + b"e\r\ndata: [DONE]\n\n\r\n" + b"0\r\n\r\n"


class Mock(asyncio.Protocol):
    def connection_made(self, transport) -> None:
        self.transport, self.buffer = transport, b""
        self.task = None
        self.room = asyncio.Event()
        self.room.set()
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def connection_lost(self, exc) -> None:
        if self.task is not None:
            self.task.cancel()

    def pause_writing(self) -> None:
        self.room.clear()

    def resume_writing(self) -> None:
        self.room.set()

    def data_received(self, data: bytes) -> None:
        self.buffer = self.buffer + data if self.buffer else data
        head_end = self.buffer.find(b"\r\n\r\n")
        if head_end < 0:
            return
        head = self.buffer[:head_end].lower()
        at = head.find(b"content-length:")
        if at >= 0:
            length = int(head[at + 15 : (head.find(b"\r\n", at) + 1 or len(head) + 1) - 1])
            if len(self.buffer) < head_end + 4 + length:
                return
        elif b"transfer-encoding: chunked" in head and not self.buffer.endswith(b"0\r\n\r\n"):
            return
        body, self.buffer = self.buffer[head_end:], b""
        start = body[:400]
        if b"bench-burst" in start:
            self.task = asyncio.get_running_loop().create_task(self.burst())
        elif b"bench-paced" in start:
            self.task = asyncio.get_running_loop().create_task(self.paced())
        else:
            self.transport.write(PLAIN)

    async def burst(self) -> None:
        write = self.transport.write
        write(HEAD + FIRST)
        for _ in range(BURST_CHUNKS):
            await asyncio.sleep(0)
            if not self.room.is_set():
                await self.room.wait()
            write(WORD)
        write(LAST)

    async def paced(self) -> None:
        self.transport.write(HEAD + FIRST)
        for _ in range(PACED_CHUNKS):
            await asyncio.sleep(PACED_MS / 1000)
            self.transport.write(WORD)
        self.transport.write(LAST)


async def serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Mock, "127.0.0.1", port, backlog=4096)
    print("up", flush=True)
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    (uvloop or asyncio).run(serve(parser.parse_args().port))


if __name__ == "__main__":
    main()
