"""An upstream that costs little and always the same, and says how long it held a request: ``python -m headway.prove.hops_own_mock --port N``.

Every POST gets one answer, made before the first request. ``GET /held`` tells of the requests since it was last asked: how many named the model DIRECT,
and the median nanoseconds from reading one to having written its answer.
"""

import argparse
import asyncio
import json
import re
import statistics
from typing import Final, cast

from headway.gateway.listener.server import new_loop
from headway.kernel.instants import mono_ns

DIRECT: Final = "direct"
HELD: Final = "/held"
HELD_KEPT_MAX: Final = 100_000
"""Requests whose times are kept until they are asked for; later ones are answered and not counted."""
BODY: Final = json.dumps(
    {
        "id": "chatcmpl-own",
        "object": "chat.completion",
        "created": 1_764_000_000,
        "model": "own",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "word " * 80}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 20, "completion_tokens": 80, "total_tokens": 100},
    }
).encode()
_HEAD: Final = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
ANSWER: Final = _HEAD % len(BODY) + BODY
_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
_DIRECT: Final = f'"{DIRECT}"'.encode()


class Mock(asyncio.Protocol):
    """One connection; requests one after the other."""

    def __init__(self, held: list[int]) -> None:
        self._held = held
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one by its methods only

    def data_received(self, data: bytes) -> None:
        began = mono_ns()
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n") + 4
        if end < 4:
            return
        length = _LENGTH.search(self._buffer, 0, end)
        if length is None:
            self._buffer = b""
            told = json.dumps({"n": len(self._held), "p50_ns": statistics.median(self._held) if self._held else 0}).encode()
            self._held.clear()
            self._transport.write(_HEAD % len(told) + told)
        elif len(self._buffer) >= end + int(length[1]):
            direct = _DIRECT in self._buffer
            self._buffer = b""
            self._transport.write(ANSWER)
            if direct and len(self._held) < HELD_KEPT_MAX:
                self._held.append(mono_ns() - began)


async def serve(port: int) -> None:
    held: list[int] = []
    server = await asyncio.get_running_loop().create_server(lambda: Mock(held), "127.0.0.1", port)
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(serve(parser.parse_args().port))


if __name__ == "__main__":
    main()
