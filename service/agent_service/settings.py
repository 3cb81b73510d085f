"""Every setting of the service: one frozen object per process, read from environment variables.

`slipway serve --help` and docs/operations/settings.md are generated from the descriptions here.
"""

import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, get_args, get_origin

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    Json,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from agent_service.caller_limits import BudgetLimits, CallerLimits
from agent_service.errors import SettingsError
from agent_service.langgraph_file import GraphSource, LanggraphFile, graph_sources, module_folders, read_langgraph_file
from agent_service.setting_types import (
    BaseUrl,
    ConnInfo,
    Count,
    GraphTarget,
    HostNames,
    HttpUrl,
    Origins,
    PictureFile,
    RedisUrl,
    SchemaNames,
    Seconds,
    Usd,
    is_local_url,
    is_loopback,
    split_names,
)

OFFLINE_MODEL = "offline"
"""Name of the built-in model that needs no endpoint and no key."""

MODELS = frozenset({"model", "cheap_model", "fallback_model"})
"""Settings that may name it."""

MIN_JWT_SECRET_BYTES = 32
"""HS256 needs a key at least as long as its hash (RFC 7518, 3.2)."""


QUEUED_PER_PRINCIPAL, STREAMS_PER_PRINCIPAL, RUNS_PER_PRINCIPAL, RATE_PER_MINUTE = 50, 200, 200, 600
"""Shares of one caller; their settings say why."""


class Settings(BaseModel):
    """Settings of one process. Field order is the order of the generated table."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # Where it listens
    host: str = Field("127.0.0.1", description="Address of the API. The image sets 0.0.0.0.")
    port: int = Field(8000, ge=0, le=65535, description="Port of the API; 0 takes a free one.")
    ops_host: str = Field("", description="Address of the ops port; empty means the same as HOST.")
    ops_port: int = Field(9090, ge=0, le=65535, description="Port of probes, metrics and status, served by a thread of its own.")
    liveness_timeout: Seconds = Field(
        60.0, description="Seconds the event loop may be silent before /live fails and the kubelet restarts the pod."
    )
    max_connections: Count = Field(
        2_000,
        description="Open connections of one process; beyond it the one that has been idle longest gives way, then 503."
        " An idle one costs about 10 kB. The ops port has 500 of its own.",
    )
    max_connections_per_address: int = Field(
        0, ge=0, description="The same for one client address; 0 sets no limit, as behind a load balancer all have its address."
    )
    request_seconds: Seconds = Field(
        10.0,
        description="Seconds until the head of a request must be complete, and in which 4 KiB more of its body must come;"
        " then 408. A client on the slowest mobile network needs about one.",
    )
    idle_seconds: Seconds = Field(
        75.0,
        description="Seconds a connection stays open between two requests. Above the 60 s of common load balancers: the side"
        " that closes first must be theirs, or they see a reset.",
    )
    unread_seconds: Seconds = Field(
        30.0,
        description="Seconds in which a client must read 4 KiB more of what waits for it; then it is cut off. It may come back"
        " with the id of its last event.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Lowest level that is logged.")
    log_content: Literal["on", "off"] = Field(
        "off",
        description="Whether lines about failed runs have the messages of what was raised, which may quote questions, answers and"
        " keys: for development.",
    )

    developer_mode: Literal["on", "off"] = Field(
        "off",
        description="`on`, as `slipway dev` sets it, tells callers what a graph raised, with the line of its code, and shows the"
        " developer's view on the chat page. For whoever writes the graph: the text may quote a question or a key.",
    )
    developer_view: Literal["admins", "off"] = Field(
        "admins",
        description="`admins`: the chat page shows the developer's view to callers whose role is `admin` or `platform`, of their"
        " own sessions. `off`: only DEVELOPER_MODE shows it.",
    )
    api_docs: Literal["on", "off"] = Field(
        "off",
        description="`on`, as `slipway dev` sets it, serves Swagger UI at /docs to anyone: every route, and a form to try it.",
    )

    # State
    database_url: ConnInfo = Field(
        SecretStr("postgresql:///slipway"), description="PostgreSQL connection string (libpq URI or keywords)."
    )
    database_url_file: Path | None = Field(
        None,
        description="File with the connection string, instead of DATABASE_URL. It may change: as soon as a connection by the new"
        " one succeeds, all others are replaced, and no request fails.",
    )
    database_pool_size: Count = Field(
        10,
        description="Connections of one process, and 3 more for leases and notices; max_connections must allow all replicas.",
    )
    database_pooler: Literal["auto", "session", "transaction"] = Field(
        "auto",
        description="What stands between: `auto` notices a pooler and takes it for one that shares connections by transaction;"
        " `session` for one that does not, so that notices work.",
    )
    redis_url: RedisUrl | None = Field(
        None,
        description="Redis (redis://, rediss://, unix://) that counts RATE_LIMIT_PER_MINUTE and keeps the answers of"
        " RESPONSE_CACHE_SECONDS instead of PostgreSQL, which does so while Redis is away.",
    )
    database_timeout: Seconds = Field(5.0, description="Seconds a request waits for a database connection before it gets 503.")

    # The graph and its models
    agent_graph: GraphTarget = Field(
        "agent_service.agents.default.graph:build",
        description="package.module:attribute, or ./path/file.py:attribute, of a StateGraph or of a callable that takes an"
        " AgentContext and returns one. With LANGGRAPH_CONFIG also the name of a graph there, which is then the default one.",
    )
    langgraph_config: Path | None = Field(
        None,
        description="A langgraph.json: several graphs by name (`graphs`), with the folders (`dependencies`) and variables (`env`)"
        " that they need. Without AGENT_GRAPH the first one that takes messages is the default one.",
    )
    graph_version: str = Field(
        "",
        pattern=r"^([A-Za-z0-9][A-Za-z0-9._+-]{0,63})?$",
        description="Version of the graph, a label of what judges a rollout: an image's tag. Empty: the service's version.",
    )
    response_cache_seconds: float = Field(
        0.0,
        ge=0,
        description="Seconds for which the answer to the first question of a session is given again to who asks the same. 0: off."
        " Only for graphs whose answers do not depend on who asks, on the time, or on what their tools did.",
    )
    response_cache_scope: Literal["principal", "tenant", "everyone"] = Field(
        "principal", description="Who shares such answers: each caller has their own, a tenant's do, or all."
    )
    response_cache_graphs: str = Field(
        "",
        description="Graphs, separated by commas, whose answers are given again. Empty: the one that is served; where there are"
        " several, you name them.",
    )
    agent_graph_dir: Path | None = Field(
        None, description="Folder put on the module path first, for a graph mounted into the pod."
    )
    agent_context: Json[dict[str, Any]] = Field(
        "{}",
        validate_default=True,
        description="JSON object: values of the graph's `Runtime.context`, where a request gives none. Needs a `context_schema`.",
    )
    agent_description: str = Field(
        "An agent that answers questions, with tools of its own.",
        min_length=1,
        max_length=2_000,
        description="What the agent is good for, in words for the models and agents that may call it by MCP and A2A.",
    )
    page_name: str = Field("Slipway", min_length=1, max_length=60, description="Name on the chat page.")
    page_logo: PictureFile | None = Field(
        None, description="SVG, PNG or WebP file of at most 200 kB, as every reader of the page loads it. Empty: Slipway's."
    )
    page_welcome: str = Field(
        "", max_length=1_000, description="Text of an empty session on the chat page. Empty: that steps and sources appear."
    )
    page_examples: Json[dict[str, Annotated[list[str], Field(max_length=12)]]] = Field(
        "{}",
        validate_default=True,
        description='JSON object: questions by graph that the chat page offers, `{"agent": ["What is new?"]}`, at most 12 each.'
        " The default graph has some of its own.",
    )
    openai_base_url: BaseUrl | None = Field(
        None, description="Base URL of an OpenAI-compatible endpoint, ending in /v1. Empty: api.openai.com."
    )
    openai_api_key: SecretStr | None = Field(
        None, description="API key of the model endpoint. Prefer OPENAI_KEY_DIR, which rotates without a restart."
    )
    openai_key_dir: Path | None = Field(
        None,
        description="Folder with the files `current`, `previous`, `revision` of the model endpoint's key, read on each attempt.",
    )
    model: str = Field(OFFLINE_MODEL, description="Model of the agent. `offline` is built in: it needs no key, and is no LLM.")
    offline_words_per_second: float = Field(
        0.0,
        ge=0,
        le=1000,
        description="Pace of the built-in model; 0 is as fast as it can. `slipway dev` sets 30, about what a model writes, "
        "so that there is a stream to see, and an answer that lasts long enough to kill the server in the middle of it.",
    )
    cheap_model: str | None = Field(None, description="Model of routing, guardrail and other small jobs. Empty: MODEL.")
    fallback_model: str | None = Field(None, description="Model used while MODEL stays down. Empty: none.")
    adopt_models: Literal["on", "off"] = Field(
        "on",
        description="Whether a ChatOpenAI that the graph makes itself, for this endpoint and key, gets the service's retries, "
        "fallback, rotated keys and fast reader.",
    )
    embedding_model: str | None = Field(
        None, description="Embedding model of the same endpoint; with it, rag_search also ranks by pgvector."
    )
    price_file: Path | None = Field(
        None,
        description="YAML price table (USD per million tokens), read again when it changes. Empty: the one that ships with "
        "the service.",
    )
    model_timeout: Seconds = Field(
        60.0, description="Seconds one model call may be silent (before the first chunk, or between two)."
    )
    model_circuit_failures: int = Field(
        5,
        ge=0,
        le=1_000,
        description="Calls of a model in a row that fail all their retries, after which the service asks the model itself, and "
        "sends no calls while it does not answer. 0: calls are always sent.",
    )
    model_max_retries: int = Field(
        3,
        ge=0,
        le=10,
        description="Retries of a model call after 429, 5xx or a connection error, with exponential backoff and jitter.",
    )
    tool_timeout: Seconds = Field(30.0, description="Seconds one tool call may take; then the model gets an error message.")

    # Turns
    max_turn_seconds: Seconds = Field(300.0, description="Seconds a run may take before it ends with outcome `timeout`.")
    max_model_calls: Count = Field(
        10, description="Model calls of the agent in one run before it stops with outcome `iteration_limit`."
    )
    max_steps: Count = Field(
        100, description="LangGraph steps of one run (recursion limit) before it stops with outcome `iteration_limit`."
    )
    max_concurrent_runs: Count = Field(100, description="Runs one process executes at the same time.")
    max_queued_runs: int = Field(200, ge=0, description="Runs that may wait for a place, all processes together; then 503.")
    max_queued_per_principal: Count | None = Field(
        None,
        description="Runs of one caller that may wait, for whatever; then 429. Empty: 50, a quarter of MAX_QUEUED_RUNS, so that"
        " others get in; no limit with AUTH=disabled, which makes one caller of all.",
    )
    max_queued_per_session: Count = Field(
        10, description="Questions of one session that may wait with ON_BUSY=enqueue; then 409. Nobody reads ten answers at once."
    )
    max_streams_per_principal: Count | None = Field(
        None,
        description="Streams, and calls that wait for an answer, that one caller may have open on one process; then 429."
        " One whose client does not read costs about 100 kB. Empty: 200; no limit with AUTH=disabled.",
    )
    max_runs_per_principal: int | None = Field(
        None,
        ge=0,
        description="Runs of one caller that may wait or execute at a time, all processes together; then 429. 0: no limit."
        " Empty: 200, as a program that asks for many people is one caller; no limit with AUTH=disabled.",
    )
    rate_limit_per_minute: int | None = Field(
        None,
        ge=0,
        description="Runs that one caller may begin in a minute (a sliding window), all processes together; then 429. 0: no"
        " limit. Empty: 600, ten a second; no limit with AUTH=disabled.",
    )
    max_run_tokens: int = Field(
        2_000_000,
        ge=0,
        description="Tokens (input and output) that one run may use; then it ends with outcome `budget`, before its next model"
        " call. 0: no limit. A hundred calls of 20,000 tokens: more is a loop.",
    )
    max_run_usd: Usd = Field(Decimal(0), description="USD that one run may cost; then likewise. 0: no limit.")
    daily_token_limit: int = Field(
        0, ge=0, description="Tokens that one user may use in a day (UTC), where `slipway budgets` sets no other. 0: no limit."
    )
    daily_usd_limit: Usd = Field(
        Decimal(0), description="USD that one user may spend in a day, likewise. Models without a price count as free."
    )
    monthly_tenant_token_limit: int = Field(
        0, ge=0, description="Tokens that one tenant may use in a month (UTC), likewise. 0: no limit."
    )
    monthly_tenant_usd_limit: Usd = Field(Decimal(0), description="USD that one tenant may spend in a month, likewise.")
    budget_answer_tokens: Count = Field(
        4_096,
        description="Tokens of an answer that a model call reserves of a budget, besides its prompt. A call with a limit of its"
        " own (`max_tokens`, `max_completion_tokens`) reserves that. Calls that go at the same time may pass a budget by what"
        " each uses above it.",
    )
    on_busy: Literal["reject", "enqueue", "interrupt"] = Field(
        "reject", description="A second question while the session's run is going: 409, wait for its end, or cancel it."
    )
    on_disconnect: Literal["continue", "cancel"] = Field(
        "continue", description="What becomes of a run whose last stream on this process is closed by the client."
    )
    max_question_chars: Count = Field(20_000, description="Characters of a question.")
    file_graphs: str = Field(
        "",
        description="Names of the graphs, separated by commas, whose nodes and model take files with a question: pictures and"
        " PDFs, as content blocks of its message. The chat page then has a button for them. Other graphs refuse them with 422.",
    )
    max_files: Count = Field(4, description="Files of one question.")
    max_file_bytes: Count = Field(
        5_242_880,
        description="Bytes of one file. All files of a question have to fit into MAX_BODY_BYTES, as base64, which has four thirds"
        " of their bytes.",
    )
    accept_images: bool = Field(
        False, description="The graph and its model take images: on /v1 they reach the graph as content parts; else 422."
    )
    max_body_bytes: Count = Field(1_048_576, description="Bytes of a request body.")
    context_turns: Count = Field(5, description="Last turns of a session that the default graph shows the model.")
    context_tokens: Count = Field(8_000, description="Tokens of history that the default graph shows the model.")
    tool_output_chars: Count = Field(
        2_000, description="Characters of a tool's output that the model sees; the rest is cut with a note."
    )
    heartbeat_seconds: Seconds = Field(
        15.0, description="Seconds between comments on a silent stream; under every common proxy's idle limit."
    )

    # Durability
    lease_seconds: float = Field(
        5.0, ge=0.5, description="Seconds after which a dead process's runs are taken over; renewed at a third."
    )
    max_attempts: Count = Field(3, description="Processes that may die with a run before it ends as `failed`.")
    drain_seconds: Seconds = Field(
        300.0, description="Seconds after SIGTERM in which runs may finish here; then they are handed over."
    )
    drain_min_seconds: float = Field(
        0.0, ge=0, description="Seconds the port stays open after SIGTERM at least, until load balancers have noticed."
    )
    event_retention_hours: float = Field(24.0, gt=0, description="Hours the events of an ended run are kept for reconnects.")
    session_retention_days: float = Field(0.0, ge=0, description="Days after its last use that a session is erased; 0 keeps it.")
    thread_history_hours: float = Field(
        168.0,
        ge=0,
        description="Hours after its last use that a thread of a LangGraph client keeps its older states, to go back and branch"
        " there; after them the latest one remains. Other sessions keep the latest only.",
    )
    cron_owner_days: float = Field(
        30.0,
        ge=0,
        description="Days that the owner of a cron may be away, if it came by a token (JWT, sign-in): a cron is refused at its"
        " times while its owner has shown no valid credential for longer. 0: crons of such owners go on for ever. Crons made with"
        " an API key end with their owner's keys.",
    )
    prune_interval_seconds: Seconds = Field(300.0, description="Seconds between two passes of the background clean-up.")

    # Other agents (docs/user/mcp-a2a.md)
    mcp: Literal["on", "off"] = Field(
        "on",
        description="Serve the agent as a tool of MCP at /mcp: to the same callers, within the same limits as all else.",
    )
    a2a: Literal["on", "off"] = Field("on", description="Serve the agent by A2A at /a2a, likewise.")
    public_agent_card: bool = Field(
        False,
        description="`true` shows the agent's name, description and address at /.well-known/agent-card.json to who has no"
        " credential, as clients that find agents by themselves need.",
    )
    public_url: HttpUrl | None = Field(
        None,
        description="URL by which clients reach this service, for the agent card and MCP's metadata. Empty: as the"
        " request for the card says.",
    )

    # The default graph's data tool
    data_schemas: SchemaNames = Field(
        "slipway_data", description="Database schemas, separated by commas, that query_data may read."
    )
    data_timeout: Seconds = Field(5.0, description="Seconds one query of query_data may run.")
    data_row_limit: Count = Field(100, description="Rows one query of query_data returns.")

    # Who may call
    auth: Literal["required", "disabled"] = Field(
        "required",
        description="`disabled` lets anyone in as one local caller with the role platform; refused "
        "on a non-loopback HOST unless AUTH_DISABLED_ON_ANY_ADDRESS=true.",
    )
    auth_disabled_on_any_address: bool = Field(
        False, description="Second switch for AUTH=disabled on an address that others can reach."
    )
    api_keys_dir: Path | None = Field(
        None, description="Folder of hashed API keys (`slipway keys create`); may change under the process."
    )
    jwt_secret: SecretStr | None = Field(None, description="Shared secret of HS256 tokens, at least 32 bytes.")
    jwt_secret_dir: Path | None = Field(
        None,
        description="Instead of JWT_SECRET, a folder with the files `current`, `next`, `previous` and `revision`:"
        " tokens signed with any of the three are good; may change under the process.",
    )
    jwt_jwks_url: HttpUrl | None = Field(None, description="URL of the issuer's JWKS for RS256/ES256 tokens.")
    jwt_issuer: str | None = Field(None, description="Required `iss` of a token. Empty: not checked.")
    jwt_audience: str | None = Field(None, description="Required `aud` of a token. Empty: not checked.")
    oidc_issuer: HttpUrl | None = Field(
        None,
        description="Issuer of the OpenID provider by which people sign in to the chat page, as its metadata spell it. Needs"
        " OIDC_CLIENT_ID and PUBLIC_URL; the provider knows PUBLIC_URL + `/auth/callback` as a redirect URI.",
    )
    oidc_client_id: str | None = Field(None, min_length=1, description="The service's client id at that provider.")
    oidc_client_secret: SecretStr | None = Field(
        None, description="The client's secret, if the provider gave one. PKCE is used with and without."
    )
    oidc_scopes: str = Field(
        "openid",
        description="What is asked for, separated by spaces. Entra ID, Okta and Auth0 give a refresh token with"
        " `openid offline_access` only; without one people are asked to sign in again as their ID token expires.",
    )
    allowed_hosts: HostNames = Field(
        "",
        description="With AUTH=disabled: host names, separated by commas, by which browsers may call, besides addresses,"
        " localhost and names without a public domain.",
    )
    webhook_hosts: HostNames = Field(
        "",
        description="Hosts, separated by commas, which a run of a LangGraph client may name as its `webhook`, such as"
        " `hooks.example.com`. Empty: no webhooks.",
    )
    cors_origins: Origins = Field(
        "",
        description="Origins (https://chat.example.com), separated by commas, whose pages may call this API; `*` is all."
        " Empty: only this service's own page.",
    )
    cors_credentials: bool = Field(
        False,
        description="`true` lets these pages send cookies, as a login proxy in front needs. Not with CORS_ORIGINS=*.",
    )
    guardrails: Literal["on", "off"] = Field(
        "on", description="`on` refuses questions that break an input rule, before anything is stored or billed."
    )
    input_rules_file: Path | None = Field(
        None,
        description="YAML list of rules of your own (`name`, `pattern` in RE2's syntax, `message`), besides the built-in ones.",
    )

    # Traces (the library reads the other standard OTEL_* variables itself: docs/operations/tracing.md)
    otel_exporter_otlp_endpoint: HttpUrl | None = Field(None, description="OTLP address of a collector. Empty: no traces.")
    otel_exporter_otlp_traces_endpoint: HttpUrl | None = Field(
        None, description="The whole address for traces, where it is another one; with http/protobuf it ends in /v1/traces."
    )
    otel_exporter_otlp_protocol: Literal["grpc", "http/protobuf"] = Field(
        "http/protobuf", description="How the collector is spoken to; its usual ports are 4317 (grpc) and 4318 (http/protobuf)."
    )
    otel_exporter_otlp_traces_protocol: Literal["grpc", "http/protobuf"] | None = Field(
        None, description="The same, for traces alone."
    )
    otel_traces_exporter: Literal["otlp", "none"] = Field("otlp", description="`none` sends no traces, whatever the address.")
    otel_sdk_disabled: bool = Field(False, description="`true` likewise.")

    # LangSmith (read by its own library too)
    langsmith_tracing: bool = Field(False, description="Send traces and feedback to LangSmith.")
    langsmith_endpoint: str | None = Field(None, description="LangSmith address. Empty: its library's default.")
    langsmith_api_key: SecretStr | None = Field(None, description="LangSmith key.")
    langsmith_project: str = Field("slipway", description="LangSmith project.")
    langsmith_hide_content: bool = Field(True, description="Leave questions, answers and tool output out of traces.")

    @field_validator("*", mode="before")
    @classmethod
    def _any_case(cls, value: object, info: ValidationInfo) -> object:
        """A choice among words is known in any letter case, and so is the built-in model."""
        if not isinstance(value, str) or info.field_name is None:
            return value
        words = (OFFLINE_MODEL,) if info.field_name in MODELS else _words(cls.model_fields[info.field_name].annotation)
        word = value.strip().lower()
        return word if word in words else value

    @property
    def queued_of_principal(self) -> int:
        """Runs of one caller that may wait, as MAX_QUEUED_PER_PRINCIPAL says or by default."""
        return self._share(self.max_queued_per_principal, QUEUED_PER_PRINCIPAL)

    @property
    def streams_of_principal(self) -> int:
        """Streams and waiting calls of one caller on this process."""
        return self._share(self.max_streams_per_principal, STREAMS_PER_PRINCIPAL)

    @property
    def caller_limits(self) -> CallerLimits:
        return CallerLimits(
            per_minute=self._limit(self.rate_limit_per_minute, RATE_PER_MINUTE),
            at_a_time=self._limit(self.max_runs_per_principal, RUNS_PER_PRINCIPAL),
        )

    @property
    def budget_limits(self) -> BudgetLimits:
        return BudgetLimits(
            run_tokens=self.max_run_tokens or None,
            run_usd=self.max_run_usd or None,
            day_tokens=self.daily_token_limit or None,
            day_usd=self.daily_usd_limit or None,
            month_tokens=self.monthly_tenant_token_limit or None,
            month_usd=self.monthly_tenant_usd_limit or None,
            answer_tokens=self.budget_answer_tokens,
        )

    def _limit(self, given: int | None, usual: int) -> int | None:
        """None: no limit."""
        if given is None:
            return None if self.auth == "disabled" else usual
        return given or None

    def _share(self, given: int | None, usual: int) -> int:
        """With AUTH=disabled everyone is one caller, and a caller's share would be everyone's."""
        return given or (sys.maxsize if self.auth == "disabled" else usual)

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.auth == "disabled" and not self.auth_disabled_on_any_address and not is_loopback(self.host):
            raise ValueError(
                f"AUTH=disabled lets anyone in: HOST must be a loopback address, not {self.host!r},"
                " or AUTH_DISABLED_ON_ANY_ADDRESS=true"
            )
        ways = (self.api_keys_dir, self.jwt_secret, self.jwt_secret_dir, self.jwt_jwks_url, self.oidc_issuer)
        if self.auth == "required" and not any(ways):
            raise ValueError(
                "AUTH=required needs API_KEYS_DIR, JWT_SECRET, JWT_SECRET_DIR, JWT_JWKS_URL or OIDC_ISSUER"
                " (for a try-out on this machine: AUTH=disabled)"
            )
        if "*" in split_names(self.cors_origins) and (self.cors_credentials or self.auth == "disabled"):
            raise ValueError("CORS_ORIGINS=* lets every page in: not with CORS_CREDENTIALS=true or AUTH=disabled")
        if self.jwt_secret and len(self.jwt_secret.get_secret_value().encode()) < MIN_JWT_SECRET_BYTES:
            raise ValueError(f"JWT_SECRET must have at least {MIN_JWT_SECRET_BYTES} bytes")
        if self.jwt_secret and self.jwt_secret_dir:
            raise ValueError("set JWT_SECRET or JWT_SECRET_DIR, not both")
        if self.openai_api_key and self.openai_key_dir:
            raise ValueError("set OPENAI_API_KEY or OPENAI_KEY_DIR, not both")
        if self.model != OFFLINE_MODEL and not (self.openai_api_key or self.openai_key_dir):
            raise ValueError(f"MODEL={self.model} needs OPENAI_KEY_DIR or OPENAI_API_KEY (without a key: MODEL=offline)")
        if self.port and self.port == self.ops_port and self.ops_address == self.host:
            raise ValueError(f"OPS_PORT={self.ops_port}: PORT is the same; the ops port needs one of its own")
        if self.langsmith_tracing and not (self.langsmith_api_key or is_local_url(self.langsmith_endpoint)):
            raise ValueError("LANGSMITH_TRACING=true needs LANGSMITH_API_KEY")
        return self

    @model_validator(mode="after")
    def _sign_in_agrees(self) -> Self:
        if self.oidc_issuer is None:
            if unused := [name for name in ("oidc_client_id", "oidc_client_secret") if getattr(self, name)]:
                raise ValueError(f"{unused[0].upper()} is set without OIDC_ISSUER")
            return self
        if self.auth == "disabled":
            raise ValueError("OIDC_ISSUER: nobody signs in with AUTH=disabled; expected AUTH=required")
        if not self.oidc_client_id:
            raise ValueError("OIDC_CLIENT_ID: expected the service's client id at OIDC_ISSUER")
        if not self.public_url:
            raise ValueError("PUBLIC_URL: expected the URL of this service in browsers, to which OIDC_ISSUER sends people back")
        for name, url in (("OIDC_ISSUER", self.oidc_issuer), ("PUBLIC_URL", self.public_url)):
            if not (url.startswith("https://") or is_local_url(url)):
                raise ValueError(f"{name}: expected https:// to sign in by OIDC_ISSUER (http:// only on loopback)")
            if "?" in url or "#" in url:
                raise ValueError(f"{name}: expected a URL without a query and a fragment")
        if "openid" not in self.oidc_scopes.split():
            raise ValueError(f"OIDC_SCOPES: expected `openid` among them, got {self.oidc_scopes!r}")
        return self

    @property
    def ops_address(self) -> str:
        """Address of the ops port; HOST unless OPS_HOST is set."""
        return self.ops_host or self.host

    @property
    def data_schema_names(self) -> tuple[str, ...]:
        """Schemas that `query_data` may read, in the order in which names are looked up."""
        return tuple(name.strip() for name in self.data_schemas.split(","))


def _words(annotation: object) -> Iterator[object]:
    """What a setting may be, if it is a choice among words."""
    for each in (annotation, *get_args(annotation)):  # a choice, or one of a union
        if get_origin(each) is Literal:
            yield from get_args(each)


@dataclass(frozen=True, slots=True)
class GraphSettings:
    """Which graphs a process serves, and what their modules need."""

    sources: tuple[GraphSource, ...]
    folders: tuple[Path, ...]
    file: LanggraphFile | None
    chosen: bool
    """The first one is the default by the operator's choice."""


def graph_settings(settings: Settings) -> GraphSettings:
    """Reads LANGGRAPH_CONFIG again: it is small. Raises SettingsError."""
    file = read_langgraph_file(settings.langgraph_config) if settings.langgraph_config else None
    chosen = file is None or "agent_graph" in settings.model_fields_set
    sources = graph_sources(settings.agent_graph if chosen else None, settings.agent_graph_dir, file)
    return GraphSettings(sources, module_folders(sources, settings.agent_graph_dir, file), file, chosen)


def check_folders(settings: Settings) -> None:
    """For the process that reads them: a job of the same release has the variables without the mounts.

    Raises:
        SettingsError: names the variable whose folder is not there.
    """
    for name in ("agent_graph_dir", "openai_key_dir", "api_keys_dir", "jwt_secret_dir"):
        folder: Path | None = getattr(settings, name)
        if folder is not None and not folder.is_dir():
            raise SettingsError(f"{name.upper()}={folder}: no such folder")


PLAIN_TYPES: Final = frozenset(
    {"literal_error", "int_parsing", "float_parsing", "bool_parsing"}
    | {f"{side}_than{equal}" for side in ("greater", "less") for equal in ("", "_equal")}
)
"""Kinds of pydantic's errors after which the value is shown."""

SHOWN_INPUT: Final = 40
"""Characters of such a value."""


def load_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Reads the settings of this process.

    Raises:
        SettingsError: one line that names the variable and what was expected.
    """
    env = os.environ if environ is None else environ
    known = {name.upper() for name in Settings.model_fields}
    unknown = sorted(name for name in env if name.upper().startswith("AGENT_") and name.upper() not in known)
    if unknown:
        raise SettingsError(
            f"{unknown[0]}: unknown setting; AGENT_* names are {', '.join(sorted(n for n in known if n.startswith('AGENT_')))}"
        )
    if path := env.get("LANGGRAPH_CONFIG"):
        env = {**read_langgraph_file(Path(path)).env, **env}
    given = {name.lower(): value for name, value in env.items() if name.upper() in known and value != ""}
    try:
        return Settings.model_validate(given)
    except ValidationError as error:
        raise SettingsError(_one_line(error)) from None


def _one_line(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    name = ".".join(str(part) for part in first["loc"]).upper()
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] in PLAIN_TYPES:  # of a number or one of few words, which are no secret
        name, message = f"{name}={str(first['input'])[:SHOWN_INPUT]}", message.replace("Input should be", "expected", 1)
    return f"{name}: {message}" if name else message


def settings_table() -> str:
    """`NAME  (default)  description` for each setting, for --help."""
    lines = []
    for name, field in Settings.model_fields.items():
        default = field.get_default()
        shown = default.get_secret_value() if isinstance(default, SecretStr) else default
        lines.append(f"  {name.upper()}  [{'' if shown is None else shown}]\n      {field.description}")
    return "\n".join(lines)
