"""Sets the version wherever it stands (`make version-set VERSION=0.2.0`); `places` is also what the contract test compares."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent

VERSION = re.compile(r"[0-9]+\.[0-9]+\.[0-9]+")

PLACES = {
    "pyproject.toml": r'^version = "(.+)"$',
    "Dockerfile": r"^ARG VERSION=(.+)$",
    "charts/*/Chart.yaml": r'^(?:version|appVersion): "?([^"\n]+)"?$',
    "k8s/gitops/*.yaml": r"^ +(?:tag|targetRevision): v?([0-9.]+)$",
    "k8s/gitops/argocd/*.yaml": r"^ +(?:tag|targetRevision): v?([0-9.]+)$",
    "k8s/gitops/flux/*/*.yaml": r"^ +(?:tag|targetRevision): v?([0-9.]+)$",
    "docs/operations/install.md": r"(?:slipway(?:-operator)?:|image\.tag=)([0-9]+\.[0-9]+\.[0-9]+)",
}
"""Glob of the files, and the lines in them; the group is the version."""


def places() -> Iterator[tuple[Path, re.Match[str]]]:
    """Each place where the version stands."""
    for glob, pattern in PLACES.items():
        for path in sorted(ROOT.glob(glob)):
            for match in re.finditer(pattern, path.read_text(encoding="utf-8"), re.MULTILINE):
                yield path, match


def set_version(version: str) -> None:
    for path, match in reversed(list(places())):  # from the end, so that earlier positions stay true
        text = path.read_text(encoding="utf-8")
        path.write_text(text[: match.start(1)] + version + text[match.end(1) :], encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2 or not VERSION.fullmatch(sys.argv[1]):  # noqa: PLR2004  # the program and its argument
        raise SystemExit("make version-set VERSION=1.2.3")
    set_version(sys.argv[1])
