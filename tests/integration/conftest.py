"""The service and its client as the tests of the API have them."""

from tests.service.api.conftest import client, model, service  # noqa: F401  # pytest finds them here
