"""The only place where a path of the Kubernetes API is made, and where an answer is compared with what was asked for.

A name comes from an object that anybody may have written. `../../victim/secrets/db` as a name is another namespace's Secret
once an HTTP client has resolved the dots, so every segment is checked against the API's own grammar, and quoted besides.
"""

import re
from collections.abc import Mapping
from typing import cast
from urllib.parse import quote

from slipway_clients.cluster.interface import InvalidName, WrongAnswer
from slipway_clients.cluster.kinds import Kind, Manifest, kind_of

LABEL = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
"""A DNS-1123 label: names of namespaces, and the parts of other names."""

SUBDOMAIN = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
"""A DNS-1123 subdomain: names of objects. At most LONGEST characters; no part of it can be `.` or `..`."""

LONGEST = 253

PORT_NAME = r"[a-z0-9]([-a-z0-9]{0,13}[a-z0-9])?"

LABEL_VALUE = r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?"
LABEL_NAME = r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"

SUBRESOURCES = frozenset({"status", "proxy"})

_VERSION = re.compile(r"v[0-9]+((alpha|beta)[0-9]+)?")
_PLURAL = re.compile(r"[a-z]+")


def object_path(kind: Kind, namespace: str | None, name: str, subresource: str | None = None) -> str:
    """Of one object, or of a subresource of it. Raises InvalidName."""
    return f"{collection_path(kind, namespace)}/{name_segment(name)}{_subresource(subresource)}"


def collection_path(kind: Kind, namespace: str | None) -> str:
    """Of all objects of a kind, in one namespace or, for None, in all of them. Raises InvalidName."""
    scope = "" if namespace is None or not kind.namespaced else f"/namespaces/{namespace_segment(namespace)}"
    return f"{_root(kind.api_version)}{scope}/{_segment(kind.plural, _PLURAL, 'the plural of a kind')}"


def proxy_path(kind: Kind, namespace: str, name: str, port: int | str) -> str:
    """Of a port of a pod or a service, by the API server's proxy; what is called there follows it. Raises InvalidName."""
    namespace_segment(namespace)
    return f"{collection_path(kind, namespace)}/{name_segment(name)}:{port_segment(port)}{_subresource('proxy')}"


def path_of(manifest: Manifest, subresource: str | None = None) -> str:
    """Of the object that a manifest is about. Raises InvalidName."""
    kind, metadata = kind_of(manifest), manifest["metadata"]
    namespace = metadata.get("namespace")
    if kind.namespaced and namespace is None:
        raise InvalidName(f"a {kind.kind} without metadata.namespace")
    return object_path(kind, namespace, metadata["name"], subresource)


def namespace_segment(namespace: object) -> str:
    """The name of a namespace, as a segment of a path. Raises InvalidName."""
    return _segment(namespace, re.compile(LABEL), "the name of a namespace (a DNS-1123 label)")


def name_segment(name: object) -> str:
    """The name of an object, as a segment of a path. Raises InvalidName."""
    return _segment(name, re.compile(SUBDOMAIN), "the name of an object (a DNS-1123 subdomain)")


def port_segment(port: object) -> str:
    """A port's number or name, as a part of a segment. Raises InvalidName."""
    text = str(port) if isinstance(port, int) and not isinstance(port, bool) else port
    if isinstance(text, str) and text.isascii() and text.isdecimal() and len(text) <= len("65535") and 0 < int(text) <= 65535:  # noqa: PLR2004  # the protocol's
        return text
    found = _segment(text, re.compile(PORT_NAME), "a port (1 to 65535, or its name)")
    if not any(each.isalpha() for each in found):
        raise InvalidName(f"expected a port (1 to 65535, or its name), got {_shown(port)}")
    return found


def label_selector(labels: object) -> str:
    """`a=b,c=d`. Raises InvalidName for what would be read as another selector, such as a comma or an `in (…)`."""
    if not isinstance(labels, Mapping) or not labels:
        raise InvalidName(f"expected labels, got {_shown(labels)}")
    return ",".join(sorted(f"{label_key(name)}={label_value(value)}" for name, value in labels.items()))


def label_key(key: object) -> str:
    """A label's name, with a prefix or without. Raises InvalidName."""
    prefix, slash, name = key.rpartition("/") if isinstance(key, str) else ("", "", "")
    if slash:
        name_segment(prefix)
    if not re.fullmatch(LABEL_NAME, name):
        raise InvalidName(f"expected the name of a label, got {_shown(key)}")
    return f"{prefix}{slash}{name}"


def label_value(value: object) -> str:
    """A label's value, which may be empty. Raises InvalidName."""
    if not isinstance(value, str) or not re.fullmatch(LABEL_VALUE, value):
        raise InvalidName(f"expected the value of a label, got {_shown(value)}")
    return value


def checked(answer: object, kind: Kind, namespace: str | None, name: str | None) -> Manifest:
    """The answer, when it is the object that was asked for. `name` is None for an object that the API server does not name.

    Raises:
        WrongAnswer: it is another one, or none.
    """
    found = _identity(answer)
    wanted = (kind.api_version, kind.kind, namespace if kind.namespaced else None, name)
    if found is None or found[:3] != wanted[:3] or (name is not None and found[3] != name):
        raise WrongAnswer(f"asked for {_title(wanted)}, got {_title(found)}")
    return cast("Manifest", answer)  # _identity has seen that it is one


def checked_items(answer: object, kind: Kind, namespace: str | None) -> tuple[list[Manifest], str]:
    """The objects of a page of a list, and the token of the next page. Raises WrongAnswer.

    A list leaves out of its items what all of them share.
    """
    whole = answer if isinstance(answer, dict) else {}
    items, metadata = whole.get("items"), whole.get("metadata")
    if (whole.get("apiVersion"), whole.get("kind")) != (kind.api_version, f"{kind.kind}List") or not isinstance(metadata, dict):
        raise WrongAnswer(f"asked for a list of {kind.plural}, got {_shown(whole.get('kind'))}")
    if not isinstance(items, list | None):
        raise WrongAnswer(f"a list of {kind.plural} without items")
    found = [_item(each, kind, namespace) for each in items or ()]
    return found, str(metadata.get("continue") or "")


def _item(item: object, kind: Kind, namespace: str | None) -> Manifest:
    whole = {"apiVersion": kind.api_version, "kind": kind.kind, **item} if isinstance(item, dict) else item
    found = _identity(whole)
    if found is None:
        raise WrongAnswer(f"a list of {kind.plural} holds {_title(found)}")
    try:
        name_segment(found[3])
        where = namespace if namespace is not None or not kind.namespaced else namespace_segment(found[2])
    except InvalidName as error:
        raise WrongAnswer(f"a list of {kind.plural}: {error}") from None
    return checked(whole, kind, where, None)


def _identity(answer: object) -> tuple[object, object, object, object] | None:
    if not isinstance(answer, dict) or not isinstance(metadata := answer.get("metadata"), dict):
        return None
    return answer.get("apiVersion"), answer.get("kind"), metadata.get("namespace"), metadata.get("name")


def _root(api_version: str) -> str:
    group, slash, version = api_version.rpartition("/")
    checked_version = _segment(version, _VERSION, "an API version")
    return f"/apis/{name_segment(group)}/{checked_version}" if slash else f"/api/{checked_version}"


def _subresource(name: str | None) -> str:
    if name is None:
        return ""
    if name not in SUBRESOURCES:
        raise InvalidName(f"expected one of {', '.join(sorted(SUBRESOURCES))}, got {_shown(name)}")
    return f"/{name}"


def _segment(text: object, grammar: re.Pattern[str], what: str) -> str:
    if not isinstance(text, str) or len(text) > LONGEST or not grammar.fullmatch(text):
        raise InvalidName(f"expected {what}, got {_shown(text)}")
    return quote(text, safe="")  # changes nothing of what the grammar lets through, whatever becomes of the grammar


def _shown(value: object) -> str:
    text = ascii(value)
    return text if len(text) <= 80 else f"{text[:80]}… ({len(text)} characters)"  # noqa: PLR2004  # a line of a terminal


def _title(identity: tuple[object, ...] | None) -> str:
    if identity is None:
        return "something that is no object"
    version, kind, namespace, name = identity
    return f"{_shown(version)} {_shown(kind)} {_shown(namespace)}/{_shown(name)}"
