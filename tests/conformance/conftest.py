"""The client as the tests of the API have it."""

from tests.service.api.conftest import client  # noqa: F401  # pytest finds it here
