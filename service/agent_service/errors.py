"""Every error of the service. The API maps `SlipwayError` to problem details in one place (api/error_handlers.py)."""

from typing import ClassVar


class SlipwayError(Exception):
    """Base. `code` is stable and part of the API; `status` is the HTTP status it maps to."""

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False

    def __init__(self, detail: str, *, field: str | None = None, retry_after: int | None = None, **extra: str) -> None:
        super().__init__(detail)
        self.detail = detail
        self.field = field
        self.retry_after = retry_after
        self.extra = extra


class SettingsError(SlipwayError):
    """A setting is wrong: one line that names it. Commands exit with 2."""

    code = "settings"


class SchemaMismatch(SlipwayError):
    """The database's schema is older or newer than this code."""

    code = "schema_mismatch"
    status = 503


class InvalidRequest(SlipwayError):
    """The request is malformed; `field` names what."""

    code = "invalid_request"
    status = 422


class BothContexts(InvalidRequest):
    """`context` and `config.configurable` at once: clients of LangGraph know the status."""

    status = 400


class TooLarge(SlipwayError):
    """The body of a request, or a part of it, is beyond its limit."""

    code = "too_large"
    status = 413


class Unauthenticated(SlipwayError):
    """It is not known who calls."""

    code = "unauthenticated"
    status = 401


class IssuerUnavailable(SlipwayError):
    """The token's key is not known here, and its issuer cannot be asked: the token may be good."""

    code = "issuer_unavailable"
    status = 503
    retryable = True


class Forbidden(SlipwayError):
    """It is known who calls, and that one may not."""

    code = "forbidden"
    status = 403


class NotFound(SlipwayError):
    """No such thing, or it belongs to another principal: the two are not told apart."""

    code = "not_found"
    status = 404


class ModelNotFound(NotFound):
    """The OpenAI wire has one model; clients know this code."""

    code = "model_not_found"


class AlreadyExists(SlipwayError):
    """A thread with this id is there, or the run of a cron's tick."""

    code = "already_exists"
    status = 409


class SessionBusy(SlipwayError):
    """A run of the session is going; `retry_after` is in seconds."""

    code = "session_busy"
    status = 409
    retryable = True


class StateGone(SlipwayError):
    """The session's state before a question is no longer kept: to replace the question would forget what was said before it."""

    code = "state_gone"
    status = 409


class SessionInterrupted(SlipwayError):
    """The session waits for a decision; `POST /runs/{id}/resume` comes first."""

    code = "session_interrupted"
    status = 409


class OtherGraph(SlipwayError):
    """The session belongs to another graph, which `extra` has as `graph`: checkpoints of two graphs never mix."""

    code = "other_graph"
    status = 409


class NotInterrupted(SlipwayError):
    """The run waits for no decision."""

    code = "not_interrupted"
    status = 409


class IdempotencyConflict(SlipwayError):
    """The key was used for another call, or the same with other content."""

    code = "idempotency_conflict"
    status = 409


class GuardrailBlocked(SlipwayError):
    """An input rule refused the question; `extra` has the `rule`. Nothing was stored or billed."""

    code = "guardrail_blocked"
    status = 422


class ClientGone(SlipwayError):
    """Nobody waits for the answer; the status is the one of nginx's log for it."""

    code = "client_gone"
    status = 499


class TooManyStreams(SlipwayError):
    """The caller has as many open as one may have."""

    code = "too_many_streams"
    status = 429
    retryable = True


class TooManyThreads(SlipwayError):
    """The caller makes threads and runs nothing on them."""

    code = "too_many_threads"
    status = 429
    retryable = True


class RateLimited(SlipwayError):
    """The caller has begun as many runs in the last minute as one may."""

    code = "rate_limited"
    status = 429
    retryable = True


class TooManyRuns(SlipwayError):
    """The caller has as many runs going as one may."""

    code = "too_many_runs"
    status = 429
    retryable = True


class BudgetSpent(SlipwayError):
    """Nothing is left of what a run may use, a user a day, or a tenant a month."""

    code = "budget_spent"
    status = 429
    retryable = True


class Overloaded(SlipwayError):
    """No place is free now; the same request may succeed after `retry_after` seconds."""

    code = "overloaded"
    status = 503
    retryable = True


class TooManyQueued(SlipwayError):
    """So many runs of the caller wait that others would suffer."""

    code = "too_many_queued"
    status = 429
    retryable = True


class ServerLeaving(SlipwayError):
    """The process drains; asking again (with the same Idempotency-Key) or joining the run works at a peer."""

    code = "server_leaving"
    status = 503
    retryable = True


class DatabaseUnavailable(SlipwayError):
    """PostgreSQL does not answer. What was asked for may have happened all the same."""

    code = "database_unavailable"
    status = 503
    retryable = True


class ModelUnavailable(SlipwayError):
    """The model endpoint failed after all retries."""

    code = "model_unavailable"
    status = 503
    retryable = True


class ModelRejected(SlipwayError):
    """The model endpoint refused the request (4xx other than 401 and 429): retrying will not help."""

    code = "model_rejected"
    status = 502


class GraphError(SettingsError):
    """A source does not lead to a graph; says which, and what was found."""

    code = "graph"


class GraphFailed(SlipwayError):
    """A node of the graph raised."""

    code = "graph_failed"
    status = 500


class GraphBroken(SlipwayError):
    """Its files were changed and cannot be loaded (`slipway dev --reload`); what waits for a decision goes on waiting."""

    code = "graph_broken"
    status = 503
    retryable = True


class GraphChanged(SlipwayError):
    """The run began under another version of the graph, which had nodes or keys that this one lacks."""

    code = "graph_changed"


class LeaseLost(SlipwayError):
    """Another process executes the run now; this one must write nothing more."""

    code = "lease_lost"
    status = 503
    retryable = True
