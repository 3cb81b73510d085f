"""Writes the diagrams of docs/developer/architecture.md (`make architecture-docs`).

The components come from their pyproject.toml and the Dockerfile, a question's and a rotation's way from the numbered lists of
files that tests follow.
"""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs/developer/architecture.md"
ROTATION = ROOT / "docs/developer/rotation.md"

COMPONENTS = ("service", "operator", "doctor", "clients", "monitoring")
BEGIN = "<!-- Diagram `{}`, written by `make architecture-docs`: -->\n"
END = "<!-- End of the diagram. -->\n"

OUTSIDE = {
    "service": {"PostgreSQL": "runs, events, graph state", "model endpoint": "each model call"},
    "operator": {"issuer of keys": "new keys, revoked keys"},
    "clients": {"Kubernetes API": "objects, Leases", "Prometheus": "figures, rules"},
    "monitoring": {"charts/": "alerts.yaml, dashboards"},
}
"""What a component reaches, which no file of ours declares; with what it is about."""


def render(page: str) -> str:
    """The page with its diagrams as the code has them. Raises ValueError when the marks of one are not there."""
    diagrams = {
        "parts": _parts(),
        "question": _way(listed(page)),
        "rotation": _way(listed(ROTATION.read_text(encoding="utf-8"))),
    }
    for name, lines in diagrams.items():
        begin = BEGIN.format(name)
        head, found, rest = page.partition(begin)
        _, end, tail = rest.partition(END)
        if not found or not end:
            raise ValueError(f"{PAGE.name}: expected the lines {begin!r} and {END!r}")
        page = "\n".join([f"{head}{begin}", "```mermaid", *lines, "```", "", f"{end}{tail}"])
    return page


def listed(page: str) -> list[tuple[str, str]]:
    """File and job of each line like ``1. `runs/service.py`: what it does``."""
    return re.findall(r"^\d+\. `(\S+\.py)`: (.+)$", page, flags=re.MULTILINE)


def from_the_route(page: str) -> list[str]:
    """Files of a question's way from the one with its route on; every request passes those before it."""
    files = [path for path, _ in listed(page)]
    return files[next(at for at, path in enumerate(files) if path.startswith("api/")) :]


def images() -> dict[str, list[str]]:
    """Image to its components, by the wheels that the Dockerfile builds for it."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    return {
        name: re.findall(r"\./(\w+)", wheels) for name, wheels in re.findall(r"--wheel-dir /wheels/(\w+)((?: \./\w+)+)", text)
    }


def _parts() -> Iterator[str]:
    yield "flowchart TB"
    for image, components in images().items():
        yield f'    subgraph image_{image}["image {image}"]'
        yield from (f'        {each}["{each}/"]' for each in components)
        yield "    end"
    for component in COMPONENTS:
        yield from (f"    {component} --> {sister}" for sister in needs(component))
        for outside, what in OUTSIDE.get(component, {}).items():
            yield f'    {component} -. "{what}" .-> {re.sub(r"[^a-zA-Z]", "", outside)}["{outside}"]'


def needs(component: str) -> list[str]:
    """Components that this one declares as dependencies."""
    project = tomllib.loads((ROOT / component / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [name.removeprefix("slipway-") for name in project["dependencies"] if name.startswith("slipway-")]


def _way(files: list[tuple[str, str]]) -> Iterator[str]:
    yield "flowchart LR"
    names = [f"n{number}" for number in range(len(files))]
    yield from (f'    {name}["{path}"]' for name, (path, _) in zip(names, files, strict=True))
    yield f"    {' --> '.join(names)}"


if __name__ == "__main__":
    PAGE.write_text(render(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
