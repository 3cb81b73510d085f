"""Do runs end, and do they end well when something else does not?"""

from slipway_doctor.checks.facts import Facts
from slipway_doctor.checks.finding import Verdict, fail, ok, unknown, warn
from slipway_doctor.checks.live import no_prometheus
from slipway_doctor.checks.versions import MIN_TURNS, VersionFigures, worse


def timeouts(facts: Facts) -> Verdict:
    """A model or tool call must end before its turn, and a turn before the drain."""
    turn = facts.environment.number("MAX_TURN_SECONDS")
    longer = [name for name in ("MODEL_TIMEOUT", "TOOL_TIMEOUT") if facts.environment.number(name) >= turn]
    if longer:
        message = f"{' and '.join(longer)} not below MAX_TURN_SECONDS ({turn:g} s): one silent call uses up the whole turn"
        return fail("TimeoutsNested", message, "lower them, so that a retry still fits into the turn")
    if facts.environment.number("DRAIN_SECONDS") < turn:
        fix = "set streaming.maxTurnSeconds, which derives both; until then each rollout hands long runs over"
        return warn("DrainShorterThanTurn", "DRAIN_SECONDS is below MAX_TURN_SECONDS", fix)
    return ok("Nested", "a model call fits into a turn, and a turn into the drain")


def retries(facts: Facts) -> Verdict:
    """Whether one 429 or broken connection of the model endpoint fails a run."""
    if facts.environment.offline:
        return ok("BuiltIn", "the built-in model needs no retry")
    if facts.environment.number("MODEL_MAX_RETRIES") < 1:
        return fail("NoRetries", "a single 429 of the endpoint fails a run", "set MODEL_MAX_RETRIES to 3")
    return ok("Retried", "429, 5xx and connection errors are retried")


def iteration_limit(facts: Facts) -> Verdict:
    """Whether the limit of model calls would stop a run that loops before it costs much."""
    limit = facts.limits.max_model_calls
    if facts.environment.number("MAX_MODEL_CALLS") > limit:
        return warn(
            "LimitHigh", f"MAX_MODEL_CALLS is above {limit}: a loop costs that many calls", "lower it to what real runs need"
        )
    return ok("Limited", "a run that loops is stopped")


def drain_tested(facts: Facts) -> Verdict:
    """A drain that nobody has tried is met for the first time in an incident."""
    if facts.prometheus is None or facts.prometheus.error:
        return no_prometheus(facts)
    if facts.prometheus.drained is None:
        return unknown("NoHistory", "Prometheus knows nothing of this release yet")
    if not facts.prometheus.drained:
        fix = f"kubectl rollout restart deployment -l app.kubernetes.io/instance={facts.release}, while a stream is open"
        return warn("NeverDrained", "no pod has drained in the last 30 days", fix)
    return ok("Drained", "a pod has drained in the last 30 days")


def fallback_model(facts: Facts) -> Verdict:
    """Whether runs go on while the model is down."""
    environment = facts.environment
    if environment.offline:
        return ok("BuiltIn", "the built-in model has no endpoint that could be down")
    if not environment.has("FALLBACK_MODEL"):
        return warn("NoFallback", "while MODEL is down, runs fail", "set model.fallbackName")
    if environment.get("FALLBACK_MODEL") == environment.get("MODEL"):
        return fail("SameModel", "FALLBACK_MODEL is MODEL", "name another model")
    return ok("Set", "another model steps in while MODEL stays down")


def rollout(facts: Facts) -> Verdict:
    """The version that is being rolled out against the one before, or against the release that is the baseline."""
    if facts.prometheus is None or facts.prometheus.error or facts.prometheus.versions_error:
        return no_prometheus(facts)
    version = facts.rollout.version or facts.environment.get("GRAPH_VERSION")
    if not version:
        return unknown(
            "VersionUnknown", "nothing says which version is the new one", "set graph.version, or spec.rollout.version"
        )
    new, old = _compared(facts, version)
    if old is None:
        return unknown("OneVersion", f"none but version {version} has had turns in the last 30 minutes: nothing to compare with")
    few = [each.version for each in (new, old) if not each.enough]
    if few:
        message = f"fewer than {MIN_TURNS} turns in the last 30 minutes of version {' and of '.join(few)}"
        return unknown("TooFewTurns", message, "wait, or send it more traffic")
    names = f"version {new.version} of {new.release} against {old.version} of {old.release}"
    if found := list(worse(new, old)):
        fix = "roll it back (helm rollback), or take its traffic away; docs/operations/progressive-rollouts.md has the queries"
        return fail("Worse", f"{names}: {'; '.join(found)}", fix)
    return ok("AsGood", f"{names}: as good or better")


def _compared(facts: Facts, version: str) -> tuple[VersionFigures, VersionFigures | None]:
    """The new version, and the other one with most turns."""
    assert facts.prometheus  # noqa: S101  # the caller's
    found = {(each.release, each.version): each for each in facts.prometheus.versions}
    mine = facts.release, version
    baseline = facts.rollout.baseline or facts.release
    others = (each for key, each in found.items() if key != mine and each.release == baseline)
    return found.get(mine, VersionFigures(*mine)), max(others, key=lambda each: each.turns, default=None)
