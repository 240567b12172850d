"""An OTLP/HTTP receiver on loopback, for tests: decodes protobuf, keeps what came, and misbehaves when told."""

import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span


class Collector:
    """Takes OTLP/HTTP on loopback; ``answers`` are (status, headers, body) in turn, then 200."""

    def __init__(self) -> None:
        self.requests: list[ExportTraceServiceRequest] = []
        self.metrics: list[ExportMetricsServiceRequest] = []
        self.heads: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.answers: list[tuple[int, dict[str, str], bytes]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                outer.paths.append(self.path)
                outer.heads.append({name.lower(): value for name, value in self.headers.items()})
                status, headers, answer = outer.answers.pop(0) if outer.answers else (200, {}, b"")
                if status == 200 and self.path.endswith("/v1/metrics"):
                    outer.metrics.append(ExportMetricsServiceRequest.FromString(body))
                elif status == 200:
                    outer.requests.append(ExportTraceServiceRequest.FromString(body))
                self.send_response(status)
                for name, value in {**headers, "content-length": str(len(answer))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()

    def spans(self) -> list[Span]:
        return [
            span
            for request in self.requests
            for part in request.resource_spans
            for scope in part.scope_spans
            for span in scope.spans
        ]

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


def until(true: Callable[[], object], within_s: float = 5.0) -> None:
    end = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.005)


def plain(span: Span) -> dict[str, object]:
    def of(value: object) -> object:
        which = value.WhichOneof("value")  # type: ignore[attr-defined]
        found = getattr(value, which)
        return [of(each) for each in found.values] if which == "array_value" else found

    return {each.key: of(each.value) for each in span.attributes}
