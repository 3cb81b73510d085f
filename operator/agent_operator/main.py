"""The operator: `kopf run -m agent_operator.main`. Importing a module of handlers here is what registers them."""

from agent_operator import startup

__all__ = ["startup"]
