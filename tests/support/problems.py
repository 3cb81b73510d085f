"""The shape of every error response, checked in one place."""

import httpx

ALWAYS = {"type", "title", "status", "code", "detail", "retryable"}


def check_problem(response: httpx.Response, status: int, code: str, *, field: str | None = None) -> dict[str, object]:
    """Asserts that the response is this problem, whole and well-formed. Returns its body."""
    assert response.status_code == status, (response.status_code, response.text)
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["x-request-id"]
    assert int(response.headers["content-length"]) == len(response.content)
    body: dict[str, object] = response.json()
    assert body.keys() >= ALWAYS
    assert (body["status"], body["code"], body["type"]) == (status, code, "about:blank"), body
    assert body.get("field") == field, body
    assert isinstance(body["detail"], str)
    assert body["detail"]
    assert isinstance(body["retryable"], bool)
    assert (status in {429, 503}) == ("retry-after" in response.headers)
    assert (status == 401) == ("www-authenticate" in response.headers)
    assert "Traceback" not in response.text
    return body
