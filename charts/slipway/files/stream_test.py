"""`helm test`: a real stream through the Service. With no token to be had it tests that strangers stay outside."""
# ruff: noqa: S101, S310, T201  # a test; the address is the chart's; the lines are for who runs `helm test --logs`

import http.client
import os
import time
import urllib.error
import urllib.request
from http import HTTPStatus
from itertools import pairwise

import jwt

REACH_SECONDS = 20
"""In which the Service is to be reached: right after `helm install --wait` not every node has heard of its address."""


def answer(request: urllib.request.Request, seconds: float) -> http.client.HTTPResponse:
    """The head of its answer. A connection that is refused is tried again; an answer, whatever it says, is not."""
    until = time.monotonic() + REACH_SECONDS
    while True:
        try:
            return urllib.request.urlopen(request, timeout=seconds)
        except urllib.error.HTTPError:
            raise
        except urllib.error.URLError:
            if time.monotonic() > until:
                raise
            time.sleep(1)


def token() -> str | None:
    if given := os.environ.get("TOKEN"):
        return given
    secret = os.environ.get("JWT_SECRET")
    if not secret:
        return None
    claims = {"sub": "helm-test", "exp": int(time.time()) + 300}
    for claim, name in (("iss", "JWT_ISSUER"), ("aud", "JWT_AUDIENCE")):
        if value := os.environ.get(name):
            claims[claim] = value
    return jwt.encode(claims, secret, "HS256")


def stream(bearer: str) -> None:
    request = urllib.request.Request(
        f"{os.environ['URL']}/chat/stream?question=How+many+runs+did+I+have+today%3F",
        headers={"Authorization": f"Bearer {bearer}"},
    )
    started = time.monotonic()
    with answer(request, 120) as response:
        lines = [line.decode().rstrip("\n") for line in response]
    assert response.headers["Content-Type"].startswith("text/event-stream"), response.headers["Content-Type"]
    errors = [after for line, after in pairwise(lines) if line == "event: error"]
    assert not errors, errors
    assert "data: [DONE]" in lines, f"the stream broke off after {lines[-3:]}"
    print(f"a stream of {len(lines)} lines ended with [DONE] after {time.monotonic() - started:.1f} s")


def stranger() -> None:
    try:
        status = answer(urllib.request.Request(f"{os.environ['URL']}/sessions"), 30).status
    except urllib.error.HTTPError as error:
        status = error.code
    assert status == HTTPStatus.UNAUTHORIZED, f"a stranger got {status}"
    print("no token to test a stream with (helmTest.existingSecret); a stranger is refused, as it should be")


if os.environ["AUTH"] == "disabled":
    stream("none")
elif bearer := token():
    stream(bearer)
else:
    stranger()
