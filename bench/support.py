"""What the bench shares with the tests, all of it: a PostgreSQL, `langgraph dev`, a free port, a receiver of spans.

Nothing else in bench/ imports from tests/.
"""

from tests.conformance.langgraph.reference import prepared as prepared_reference
from tests.support.fake_model import FakeModel
from tests.support.fake_script import Script
from tests.support.otlp import collector
from tests.support.ports import free_port
from tests.support.postgres import Server, own_servers
from tests.support.service import running_service

__all__ = ["FakeModel", "Script", "Server", "collector", "free_port", "own_servers", "prepared_reference", "running_service"]
