"""Exercises a service by its URL, as a client would: who gets in, what is hidden, how an answer arrives."""

import asyncio
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import httpx

from slipway_clients.egress.read import Answer, ReadError, read
from slipway_clients.egress.text import plain
from slipway_doctor.checks.finding import Area, Finding, Status, Verdict, fail, ok, unknown, warn
from slipway_doctor.errors import CouldNotRun
from slipway_doctor.question import QUESTION
from slipway_doctor.stream import Recording, judge_resume, judge_stream, record

TIMEOUT = 10.0
"""Seconds for a call that is no stream."""

SKEW_WARN, SKEW_FAIL = 5.0, 30.0
"""Seconds between the clocks: tokens live for minutes, so half a minute is where callers begin to be refused."""

ERASE_TRIES = 5
"""A second apart: a run that still goes on is cancelled first, and ends at its next word."""

DEVELOPMENT = "Development"
"""Reason of a finding: open, as it is meant to be."""

UNAUTHORIZED, NOT_FOUND, CONFLICT, OK = 401, 404, 409, 200


@dataclass(frozen=True, slots=True)
class Target:
    """The service to exercise, and as whom."""

    url: str
    credential: str = field(default="", repr=False)
    """A token or an API key of a user."""
    other: str = field(default="", repr=False)
    """That of another user, to see that they do not see each other's runs."""
    question: str = QUESTION
    development: bool = False
    """It is a `slipway dev`, which lets in whoever is on its machine."""
    stream_seconds: float = 120.0
    """Limit of the whole stream."""


async def examine(target: Target, client: httpx.AsyncClient) -> list[Finding]:
    """Every finding about a URL.

    Raises:
        CouldNotRun: nothing answers there, or something else than Slipway.
    """
    found = [await _reachable(target, client), _encrypted(target), await _ops_private(target, client)]
    found.append(await _clock(target, client))
    closed = await _closed(target, client)
    found.append(closed)
    lets_in = closed.status is Status.FAIL or closed.reason == DEVELOPMENT
    if not target.credential and not lets_in:
        missing = unknown("NoCredential", "without a token or a key nothing more can be tried", "give --token or --api-key-file")
        return [*found, _as("StreamUnbuffered", Area.RELIABILITY, missing)]
    accepted = await _accepted(target, client)
    found.append(_as("CredentialAccepted", Area.SECURITY, accepted))
    if accepted.status is not Status.OK:
        return found
    found.append(await _foreign(target, client))
    return found + await _streams(target, client)


def _as(id_: str, area: Area, verdict: Verdict) -> Finding:
    return Finding(id_, area, verdict.status, verdict.reason, verdict.message, verdict.fix)


async def get(client: httpx.AsyncClient, url: str, credential: str = "") -> Answer:
    """Raises CouldNotRun when nothing answers, or more than is read."""
    try:
        return await read(client, "GET", url, seconds=TIMEOUT, headers=_bearer(credential))
    except ReadError as error:
        raise CouldNotRun(f"{url}: {error}") from None


def _bearer(credential: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {credential}"} if credential else {}


def json_of(answer: Answer) -> Mapping[str, object]:
    """The body's object; empty when it is something else."""
    try:
        body = answer.json()
    except ReadError:
        return {}
    return body if isinstance(body, dict) else {}


async def _reachable(target: Target, client: httpx.AsyncClient) -> Finding:
    response = await get(client, f"{target.url}/ready")
    body = json_of(response)
    if body.get("status") not in {"ok", "unready"}:
        raise CouldNotRun(f"{target.url}/ready: HTTP {response.status}, and not an answer of Slipway")
    if response.status != OK:
        reason = plain(body.get("reason", "unknown"))
        verdict = fail("NotReady", f"it takes no traffic: {reason}", 'docs/operations/troubleshooting.md, "The pod is not ready"')
    else:
        verdict = await _dependencies(target, client)
    return _as("Ready", Area.HEALTH, verdict)


async def _dependencies(target: Target, client: httpx.AsyncClient) -> Verdict:
    dependencies = json_of(await get(client, f"{target.url}/health")).get("dependencies")
    down = sorted(_down(dependencies)) if isinstance(dependencies, Mapping) else []
    if down:
        return fail("DependencyDown", ", ".join(down), 'docs/operations/troubleshooting.md, "Callers get 503"')
    return ok("Ready", "it is ready, and everything that it depends on answers")


def _down(dependencies: Mapping[str, object]) -> Iterator[str]:
    for name, state in dependencies.items():
        if not (isinstance(state, Mapping) and state.get("ok")):
            yield f"{plain(name, 64)} ({plain(state.get('detail', 'unknown') if isinstance(state, Mapping) else state)})"


def _encrypted(target: Target) -> Finding:
    if urlsplit(target.url).scheme == "https":
        verdict = ok("Https", "the way to the service is encrypted")
    elif _is_loopback(target):
        verdict = ok("Loopback", "the address is of this machine")
    else:
        verdict = warn("PlainHttp", "tokens and answers are sent in the clear", "serve it by https at the ingress")
    return _as("Encrypted", Area.SECURITY, verdict)


def _is_loopback(target: Target) -> bool:
    host = urlsplit(target.url).hostname or ""
    return host in {"localhost", "::1"} or host.startswith("127.")


async def _ops_private(target: Target, client: httpx.AsyncClient) -> Finding:
    open_paths = [path for path in ("/metrics", "/status") if (await get(client, f"{target.url}{path}")).status == OK]
    if open_paths:
        fix = "route only the API port (8000) through the ingress; the ops port is for Prometheus and the kubelet"
        verdict = fail("OpsPublic", f"{' and '.join(open_paths)} answer without a token", fix)
    else:
        verdict = ok("OpsPrivate", "metrics and status are not to be had here")
    return _as("OpsPortPrivate", Area.SECURITY, verdict)


async def _clock(target: Target, client: httpx.AsyncClient) -> Finding:
    response = await get(client, f"{target.url}/live")
    return _as("ClocksAgree", Area.RELIABILITY, judge_clock(response.date, datetime.now(UTC)))


def judge_clock(date: str, now: datetime) -> Verdict:
    """`date` is the header of an answer; it counts whole seconds."""
    try:
        there = parsedate_to_datetime(date)
    except (ValueError, TypeError):
        return unknown("NoDate", "answers carry no Date header")
    skew = abs((now - there).total_seconds())
    if skew <= SKEW_WARN:
        return ok("InStep", "the clocks here and there agree")
    fix = "run a time service (chrony, systemd-timesyncd) on both machines"
    message = f"the clocks here and there are {skew:.0f} s apart: tokens are refused, or live too long"
    return (fail if skew > SKEW_FAIL else warn)("ClockSkew", message, fix)


async def _closed(target: Target, client: httpx.AsyncClient) -> Finding:
    response = await get(client, f"{target.url}/sessions")
    if response.status == UNAUTHORIZED:
        verdict = ok("Refused", "a call without a token is refused with 401")
    elif response.status == OK and target.development and _is_loopback(target):
        verdict = ok(DEVELOPMENT, "a call without a token is answered, to callers on this machine")
    elif response.status == OK:
        verdict = fail("Open", "a call without a token is answered: anyone has the role platform", "remove AUTH=disabled")
    else:
        verdict = unknown("Unexpected", f"a call without a token got HTTP {response.status}")
    return _as("TokenRequired", Area.SECURITY, verdict)


async def _accepted(target: Target, client: httpx.AsyncClient) -> Verdict:
    response = await get(client, f"{target.url}/sessions", target.credential)
    if response.status == OK:
        return ok("Accepted", "the token or key is accepted")
    detail = plain(json_of(response).get("detail", f"HTTP {response.status}"))
    fix = 'docs/operations/troubleshooting.md, "Callers get 401"; is the Authorization header passed by the proxy?'
    return fail("CredentialRefused", detail, fix)


async def _foreign(target: Target, client: httpx.AsyncClient) -> Finding:
    nobody = uuid.uuid4()
    paths = (f"/runs/{nobody}", f"/runs/{nobody}/stream", f"/sessions/{nobody}/messages")
    answers = {path: (await get(client, f"{target.url}{path}", target.credential)).status for path in paths}
    wrong = [f"{path.replace(str(nobody), '{id}')} got {code}" for path, code in answers.items() if code != NOT_FOUND]
    if wrong:
        verdict = fail(
            "NotHidden", f"an id of nobody should get 404, {', '.join(wrong)}", "report it: this is a fault of the service"
        )
    else:
        verdict = ok("Hidden", "an id that is not the caller's gets 404")
    return _as("ForeignIdsHidden", Area.SECURITY, verdict)


async def _streams(target: Target, client: httpx.AsyncClient) -> list[Finding]:
    """One question that costs what a question costs; its session is erased afterwards."""
    session = f"doctor-{uuid.uuid4().hex}"
    params = {"question": target.question, "session_id": session}
    stream = f"{target.url}/chat/stream"
    try:
        first = await record(client, stream, params=params, headers=_bearer(target.credential), seconds=target.stream_seconds)
        found = [_as("StreamUnbuffered", Area.RELIABILITY, judge_stream(first, await _run_seconds(target, client, first)))]
        if first.done and first.run_id:
            found += await _again(target, client, first)
        return found
    finally:
        with suppress(ReadError):  # the findings say what is wrong with the service; a session that is left is retention's
            await _erase(target, client, session)


async def _again(target: Target, client: httpx.AsyncClient, first: Recording) -> Sequence[Finding]:
    middle = len(first.events) // 2
    url = f"{target.url}/runs/{first.run_id}/stream"
    headers = {**_bearer(target.credential), "Last-Event-ID": first.events[middle].id}
    again = await record(client, url, headers=headers, seconds=target.stream_seconds)
    found = [_as("StreamResumes", Area.RELIABILITY, judge_resume(first, again, middle))]
    if target.other:
        status = (await get(client, f"{target.url}/runs/{first.run_id}", target.other)).status
        if status == NOT_FOUND:
            verdict = ok("Hidden", "another user gets 404 for this run")
        else:
            verdict = fail(
                "NotHidden", f"another user got HTTP {status} for this run", "are both tokens of one user, or of an admin?"
            )
        found.append(_as("OtherUsersApart", Area.SECURITY, verdict))
    return found


async def _run_seconds(target: Target, client: httpx.AsyncClient, recording: Recording) -> float | None:
    if not recording.run_id:
        return None
    run = json_of(await get(client, f"{target.url}/runs/{recording.run_id}", target.credential))
    try:
        began, ended = (datetime.fromisoformat(str(run.get(name))) for name in ("created_at", "finished_at"))
        return (ended - began).total_seconds()
    except (ValueError, TypeError):  # it goes on, or these are no times
        return None


async def _erase(target: Target, client: httpx.AsyncClient, session: str) -> None:
    """With the run that a broken stream left behind. Raises ReadError."""
    where, headers = f"{target.url}/sessions/{session}", _bearer(target.credential)
    for _ in range(ERASE_TRIES):
        if (await read(client, "DELETE", where, seconds=TIMEOUT, headers=headers)).status != CONFLICT:
            return
        for run_id in _run_ids(json_of(await read(client, "GET", f"{where}/messages", seconds=TIMEOUT, headers=headers))):
            await read(client, "POST", f"{target.url}/runs/{run_id}/cancel", seconds=TIMEOUT, headers=headers)
        await asyncio.sleep(1)


def _run_ids(conversation: Mapping[str, object]) -> set[uuid.UUID]:
    messages = conversation.get("messages")
    found = set[uuid.UUID]()
    for message in messages if isinstance(messages, list) else ():
        with suppress(ValueError, TypeError, AttributeError):
            found.add(uuid.UUID(message.get("run_id")))
    return found
