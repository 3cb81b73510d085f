"""Runs in a pod: metrics of an agent that loses streams on :9090, and a webhook on :8080 that keeps what it is sent.

Of each 20 reconnects that Prometheus sees since its last scrape, 8 have lost events: a share of 40 %.
"""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import Any

RECEIVED: list[Any] = []
SCRAPES = count()


class Metrics(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        scrape = next(SCRAPES)
        lines = [f'agent_stream_resumes_total{{result="{result}"}} {scrape * n}' for result, n in (("gap", 8), ("log", 12))]
        answer(self, "\n".join(lines) + "\n")

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the standard library's name
        pass


class Webhook(Metrics):
    def do_GET(self) -> None:
        answer(self, json.dumps(RECEIVED))

    def do_POST(self) -> None:
        RECEIVED.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        answer(self, "{}")


def answer(request: BaseHTTPRequestHandler, text: str) -> None:
    body = text.encode()
    request.send_response(200)
    request.send_header("Content-Type", "text/plain")
    request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    request.wfile.write(body)


if __name__ == "__main__":
    threading.Thread(target=ThreadingHTTPServer(("", 8080), Webhook).serve_forever, daemon=True).start()
    ThreadingHTTPServer(("", 9090), Metrics).serve_forever()
