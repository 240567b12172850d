"""The floor: bare ASGI on uvicorn and aiohttp to the upstream, no keys, no facts, no checks. What any gateway on this stack costs at least.

python benchmarks/gateway/floor.py --port 8080 --upstream http://127.0.0.1:9400
"""

import argparse
import asyncio

import aiohttp
import uvicorn

DROPPED = {b"host", b"content-length", b"transfer-encoding", b"connection", b"accept-encoding"}
READ_BYTES = 64 * 1024


class Floor:
    def __init__(self, upstream: str) -> None:
        self._upstream = upstream
        self._session: aiohttp.ClientSession | None = None

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] != "http":
            return
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        gone = asyncio.ensure_future(receive())
        work = asyncio.ensure_future(self._forward(scope, body, send))
        await asyncio.wait({gone, work}, return_when=asyncio.FIRST_COMPLETED)
        for task in (gone, work):
            task.cancel()
        await asyncio.gather(gone, work, return_exceptions=True)

    async def _forward(self, scope, body, send) -> None:
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=0)
            self._session = aiohttp.ClientSession(
                connector=connector, auto_decompress=False, timeout=aiohttp.ClientTimeout(total=None)
            )
        headers = [(k.decode("latin-1"), v.decode("latin-1")) for k, v in scope["headers"] if k not in DROPPED]
        target = scope["path"] + ("?" + scope["query_string"].decode() if scope["query_string"] else "")
        async with self._session.request(scope["method"], self._upstream + target, data=body, headers=headers) as answer:
            kept = [
                (k.encode(), v.encode()) for k, v in answer.headers.items() if k.lower() not in ("transfer-encoding", "connection")
            ]
            await send({"type": "http.response.start", "status": answer.status, "headers": kept})
            if "content-length" in answer.headers:
                await send({"type": "http.response.body", "body": await answer.read()})
                return
            async for piece in answer.content.iter_any():
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b""})


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--upstream", required=True)
    given = parser.parse_args()
    uvicorn.run(Floor(given.upstream), host="127.0.0.1", port=given.port, http="httptools", log_level="warning", access_log=False)


if __name__ == "__main__":
    main()
