"""What the notes tell to run does what they say."""

import os
import re
import subprocess
import sys

import jwt
import pytest

from tests.charts.slipway import CHART
from tests.support.charts import Values, render_text

SECRET = "s" * 32


def token_command(values: Values) -> str:
    """The Python text that the notes give to `python -c`."""
    (command,) = re.findall(r"python -c '(.+)'$", render_text(CHART, values)["templates/NOTES.txt"], re.MULTILINE)
    return str(command)


@pytest.mark.parametrize(
    ("values", "issuer", "audience"),
    [
        ({}, None, None),
        ({"auth": {"jwt": {"existingSecret": "mine"}}}, None, None),
        ({"auth": {"jwt": {"existingSecret": "mine", "issuer": "https://login", "audience": "agent"}}}, "https://login", "agent"),
    ],
)
def test_the_token_of_the_notes_has_the_claims_that_the_service_checks(
    values: Values, issuer: str | None, audience: str | None
) -> None:
    command = [sys.executable, "-c", token_command(values)]
    token = subprocess.check_output(command, env={**os.environ, "JWT_SECRET": SECRET}, text=True).strip()

    claims = jwt.decode(token, SECRET, ["HS256"], issuer=issuer, audience=audience)
    assert claims["sub"] == "me"


@pytest.mark.parametrize(
    "auth",
    [
        {"jwt": {"jwksUrl": "https://login/keys"}},
        {"mode": "disabled", "disabledOnAnyAddress": True, "jwt": {"existingSecret": "unused"}},
    ],
)
def test_where_the_pods_have_no_jwt_secret_the_notes_promise_no_token(auth: Values) -> None:
    notes = render_text(CHART, {"auth": auth})["templates/NOTES.txt"]

    assert "python -c" not in notes


def test_the_notes_are_short() -> None:
    assert len(render_text(CHART, {})["templates/NOTES.txt"].splitlines()) <= 15
