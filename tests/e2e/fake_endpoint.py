"""A model endpoint in the cluster: knows /models alone, and can be told to refuse every key."""

from typing import Any

SCRIPT = """
import http.server
class Endpoint(http.server.BaseHTTPRequestHandler):
    status = 200
    def do_GET(self):
        self.send_response(Endpoint.status)
        self.end_headers()
    def do_POST(self):
        Endpoint.status = int(self.path.strip("/"))
        self.send_response(204)
        self.end_headers()
http.server.ThreadingHTTPServer(("", 8080), Endpoint).serve_forever()
"""

ANSWER_WITH = """
import urllib.request
urllib.request.urlopen(urllib.request.Request("http://127.0.0.1:8080/{status}", method="POST"))
"""


def manifests(image: str) -> list[dict[str, Any]]:
    """A Deployment and a Service, both named `model`."""
    labels = {"app": "model"}
    container = {
        "name": "model",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python", "-c", SCRIPT],
        "readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    pod = {
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 1,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
    }
    return [
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "model"},
            "spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": pod}},
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "model"},
            "spec": {"selector": labels, "ports": [{"port": 8080}]},
        },
    ]
