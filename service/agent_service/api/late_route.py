"""Routes that FastAPI reads when they are first used: to read all hundred at start took 0.1 s of CPU."""

from collections.abc import Callable, Sequence
from typing import Any

from fastapi.routing import APIRoute
from starlette.routing import compile_path


class LateRoute(APIRoute):
    """An APIRoute whose parameters, dependencies and models are read at its first request, or when it is described.

    Until then it has what a request is matched by, and what it may answer.
    """

    def __init__(
        self,
        path: str,
        endpoint: Callable[..., Any],
        *,
        methods: Sequence[str] = ("GET",),
        status_code: int | None = None,
        responses: dict[int | str, dict[str, Any]] | None = None,
        **options: Any,
    ) -> None:
        self._declared = {"methods": methods, "status_code": status_code, "responses": responses, **options}
        self.path = path
        self.endpoint = endpoint
        self.methods = set(methods)
        self.status_code = status_code
        self.responses = responses or {}
        self.path_regex, self.path_format, self.param_convertors = compile_path(path)

    def __getattr__(self, name: str) -> Any:
        """Called for what is not there yet, such as `app` and `dependant`."""
        declared = self.__dict__.pop("_declared", None)
        if declared is None:
            raise AttributeError(name)
        try:
            super().__init__(self.path, self.endpoint, **declared)
        except BaseException:
            self._declared = declared  # so that the next request is told the same, and not that there is no `app`
            raise
        return getattr(self, name)
