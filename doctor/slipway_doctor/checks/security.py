"""Who may call, what can leak, and how old are the keys?"""

from datetime import datetime, timedelta

from slipway_clients.clock import parse_timestamp
from slipway_clients.cluster import Manifest
from slipway_doctor.checks.facts import Facts, labels_match
from slipway_doctor.checks.finding import Verdict, fail, ok, unknown, warn

SECRET_SETTINGS = ("OPENAI_API_KEY", "JWT_SECRET", "LANGSMITH_API_KEY", "DATABASE_URL")
CALLERS = ("API_KEYS_DIR", "JWT_SECRET", "JWT_SECRET_DIR", "JWT_JWKS_URL")

OWN_SCHEMAS = {"public", "slipway", "pg_catalog"}
"""Checkpoints, sessions of everyone, and roles: no view in them is limited to the caller."""


def auth_required(facts: Facts) -> Verdict:
    """Whether callers must say who they are, and whether any can."""
    if facts.environment.word("AUTH") == "disabled":
        return fail(
            "Disabled",
            "anyone who reaches the service has the role platform",
            "remove AUTH=disabled (docs/operations/authentication.md)",
        )
    if not facts.environment.whole_sources and not any(facts.environment.has(name) for name in CALLERS):
        return fail("NobodyKnown", "no caller can be told, and the service does not start", f"set one of {', '.join(CALLERS)}")
    return ok("Required", "every call but the probes needs a token or a key")


def guardrails(facts: Facts) -> Verdict:
    """Whether input rules stand before the model."""
    if facts.environment.word("GUARDRAILS") == "off":
        return fail("Off", "questions reach the model unchecked", "set GUARDRAILS=on")
    return ok("On", "questions pass the input rules before anything is stored or billed")


def data_schemas(facts: Facts) -> Verdict:
    """Whether `query_data` is kept out of our own tables, which hold everyone's conversations."""
    names = {name.strip() for name in facts.environment.get("DATA_SCHEMAS").split(",")}
    if exposed := sorted(names & OWN_SCHEMAS):
        fix = "name views of your own schema instead; query_data has a read-only role of its own (docs/operations/data.md)"
        return fail("OwnTablesExposed", f"query_data may read {', '.join(exposed)}", fix)
    return ok("ReadOnly", "query_data reads allowed schemas only, with a role that cannot write")


def no_key_in_environment(facts: Facts) -> Verdict:
    """A key in a variable is read by whoever may read the Deployment, and cannot change without a restart."""
    environment = facts.environment
    plain = [name for name in SECRET_SETTINGS if _holds_secret(name, environment.values.get(name, ""))]
    if plain and facts.deployment is not None:
        fix = "move it into a Secret: whoever may read the Deployment can read it"
        return fail("PlainValue", f"{', '.join(plain)} is written into the pod template", fix)
    if environment.has("OPENAI_API_KEY"):
        fix = "use model.existingSecret, which is mounted at OPENAI_KEY_DIR"
        return warn("KeyInEnvironment", "a key in a variable needs a restart to change", fix)
    return ok("None", "no model key is in an environment variable")


def _holds_secret(name: str, value: str) -> bool:
    if name == "DATABASE_URL":
        return "://" in value and ":" in value.split("://", 1)[1].rpartition("@")[0]
    return bool(value)


def keys_mounted_whole(facts: Facts) -> Verdict:
    """The kubelet never updates a mount by subPath: a rotated key would not arrive."""
    single = [
        m["mountPath"]
        for m in facts.container.get("volumeMounts") or ()
        if (m.get("subPath") or m.get("subPathExpr")) and _is_secret(facts, m)
    ]
    if single:
        fix = "mount the whole Secret as a folder, without subPath: such a mount never changes in a running pod"
        return fail("SubPath", f"a Secret is mounted by subPath at {', '.join(sorted(single))}", fix)
    return ok("Whole", "mounted Secrets change in running pods")


def _is_secret(facts: Facts, mount: Manifest) -> bool:
    volumes = facts.pod_template["spec"].get("volumes") or ()
    return any(v["name"] == mount["name"] and ("secret" in v or "projected" in v) for v in volumes)


def key_age(facts: Facts) -> Verdict:
    """Whether the model key was replaced within `limits.key_age_days`."""
    if facts.environment.offline:
        return ok("BuiltIn", "the built-in model needs no key")
    changed = key_changed(facts)
    if changed is None:
        if "secrets" in facts.forbidden:
            fix = "name it in secretNames of the operator's watch.namespaces"
            return unknown("Forbidden", "the model key's Secret cannot be read", fix)
        return unknown("NoKeySecret", "no mounted Secret holds the model key", "use model.existingSecret")
    if facts.now - changed >= timedelta(days=facts.limits.key_age_days):
        message = f"the model key has not changed for {facts.limits.key_age_days:g} days"
        return fail("KeyTooOld", message, "rotate it (docs/operations/model-keys.md), or set operator.keyRotation.enabled=true")
    return ok("Fresh", f"the model key is younger than {facts.limits.key_age_days:g} days")


def key_changed(facts: Facts) -> datetime | None:
    """When the model key was last replaced: as its KeyRotation says, or as its Secret shows; None when it cannot be told."""
    published = [rotation.get("status", {}).get("currentKeyTime") for rotation in facts.of("keyrotations")]
    times = [parse_timestamp(time) for time in published if time] or [_data_changed(secret) for secret in facts.of("secrets")]
    return max(times, default=None)


def _data_changed(secret: Manifest) -> datetime:
    """Field managers say who last wrote which field, and when; the creation is what is left without them."""
    metadata = secret["metadata"]
    writes = [f["time"] for f in metadata.get("managedFields") or () if "time" in f and "f:data" in (f.get("fieldsV1") or {})]
    return parse_timestamp(max(writes, default=metadata["creationTimestamp"]))


def database_tls(facts: Facts) -> Verdict:
    """As the pods say it of their own connections; the bundled database is told apart."""
    known = [pod.status.database for pod in facts.pods if pod.status and pod.status.database]
    if not known:
        return unknown("NotReported", "no pod says how it is connected", "slipway 0.2 or newer reports it in /status")
    if all(database.tls for database in known):
        return ok("Encrypted", "connections to the database are encrypted")
    if all(database.tls or database.local for database in known):
        return ok("Local", "connections to the database leave the machine encrypted, or not at all")
    if facts.of("databases"):
        return ok("Bundled", "the bundled database is reached inside the namespace, and for evaluation only")
    return fail(
        "Plain", "connections to the database are not encrypted", "add sslmode=verify-full to the URL in the database's Secret"
    )


def network_policy(facts: Facts) -> Verdict:
    """Whether policies limit both directions of the agent's pods."""
    if "networkpolicies" in facts.forbidden:
        return unknown("Forbidden", "NetworkPolicies cannot be listed", "allow list of networkpolicies")
    labels = facts.pod_template.get("metadata", {}).get("labels") or {}
    selecting = [p for p in facts.of("networkpolicies") if labels_match(p["spec"].get("podSelector") or {}, labels)]
    kinds = {kind for policy in selecting for kind in policy["spec"].get("policyTypes") or ("Ingress",)}
    missing = sorted({"Ingress", "Egress"} - kinds)
    if missing:
        return warn("Open", f"no NetworkPolicy limits {' and '.join(missing).lower()}", "set networkPolicy.enabled=true")
    return ok("Limited", "network policies limit both directions")


def pod_restricted(facts: Facts) -> Verdict:
    """The container's part of the restricted pod security standard, and a root that cannot be written to."""
    if not facts.container:
        return unknown("DeploymentMissing", "no Deployment has the release's labels")
    pod, own = facts.pod_template["spec"].get("securityContext") or {}, facts.container.get("securityContext") or {}
    loose = [
        name
        for name, good in (
            ("runAsNonRoot", own.get("runAsNonRoot", pod.get("runAsNonRoot"))),
            ("readOnlyRootFilesystem", own.get("readOnlyRootFilesystem")),
            ("allowPrivilegeEscalation: false", own.get("allowPrivilegeEscalation") is False),
        )
        if not good
    ]
    if loose:
        return warn("NotRestricted", f"the container lacks {', '.join(loose)}", "use the chart's securityContext")
    return ok("Restricted", "the container runs restricted, with a read-only root")
