"""Runs inside a network namespace where every address is this machine: starts the product, makes calls, prints whom anybody tried to reach.

Every address being local, a connection to anywhere shows on the loopback device, whatever library opened it.
"""

import asyncio
import json
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from stage import Line, Stage

from headway.prove.forms import DIALECTS, PATHS, body_of, headers_of
from headway.prove.product import command
from headway.prove.rawhttp import request
from headway.prove.world import MODEL_BY_DIALECT

ETH_P_ALL, TCP, UDP = 3, 6, 17
SYN, ACK = 0x02, 0x10


class Sniffer(threading.Thread):
    """Notes (protocol, address, port) of each first packet of a connection and of each datagram on loopback."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_ALL))
        self._socket.bind(("lo", ETH_P_ALL))
        self.seen: set[tuple[str, str, int]] = set()

    def run(self) -> None:
        while True:
            packet = self._socket.recv(65_535)
            family = packet[0] >> 4
            protocol, at = (packet[9], (packet[0] & 15) * 4) if family == 4 else (packet[6], 40)
            raw = packet[16:20] if family == 4 else packet[24:40]
            address = socket.inet_ntop(socket.AF_INET if family == 4 else socket.AF_INET6, raw)
            if protocol == TCP and packet[at + 13] & (SYN | ACK) == SYN:
                self.seen.add(("tcp", address, struct.unpack_from("!H", packet, at + 2)[0]))
            elif protocol == UDP:
                self.seen.add(("udp", address, struct.unpack_from("!H", packet, at + 2)[0]))


async def use(stage: Stage) -> None:
    """A little of everything: calls, listings, pages, documents, prices, commands."""
    line, product = Line(stage.product.url), stage.product
    for dialect in DIALECTS:
        for model in (*MODEL_BY_DIALECT.values(), "nobody", "azure/harbour-azure"):
            await line.send("POST", PATHS[dialect], headers_of(dialect, stage.key), body_of(dialect, model, "hi"))
    image = [{"type": "image_url", "image_url": {"url": "http://192.0.2.7/image.png"}}, {"type": "text", "text": "look"}]
    for model in MODEL_BY_DIALECT.values():
        body = json.dumps({"model": model, "max_tokens": 5, "messages": [{"role": "user", "content": image}]}).encode()
        await line.send("POST", PATHS["openai-chat"], headers_of("openai-chat", stage.key), body)
    line.close()
    owner = [("authorization", f"Bearer {product.token()}")]
    for path in ("/", "/calls", "/settings", "/api/v1/openapi.json", "/api/v1/prices?model=gpt-4o", "/metrics"):
        await request(product.control_url, "GET", path, owner)
    for words in (("check",), ("config", "show"), ("calls", "list")):
        subprocess.run(command(*words), cwd=stage.folder, env=product.control.env, capture_output=True, check=False, timeout=60)
    await asyncio.sleep(3)


def main() -> None:
    for words in ("link set lo up", "route add local 0.0.0.0/0 dev lo", "-6 route add local ::/0 dev lo"):
        subprocess.run(["ip", *words.split()], check=words.startswith("link") or "-6" not in words)
    sniffer = Sniffer()
    sniffer.start()
    if len(sys.argv) > 1:  # the test of the test
        with socket.socket() as probe:
            probe.settimeout(1)
            probe.connect_ex((sys.argv[1], 443))
    with tempfile.TemporaryDirectory() as name:
        stage = Stage(Path(name))
        try:
            stage.start()
            asyncio.run(use(stage))
        finally:
            stage.stop()
        known = {stage.product.gateway_port, stage.product.control_port, stage.upstream.port}
    other = sorted(seen for seen in sniffer.seen if not (seen[0] == "tcp" and seen[1] == "127.0.0.1" and seen[2] in known))
    print(json.dumps({"known": len(sniffer.seen) - len(other), "other": other}))


if __name__ == "__main__":
    main()
