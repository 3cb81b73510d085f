"""A release by a tag: what must be true before it, the charts as they are published, the notes (docs/developer/releasing.md)."""

import argparse
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from tools.version_set import places

ROOT = Path(__file__).parent.parent
CHARTS = ("slipway", "slipway-operator")
MIGRATIONS = "service/agent_service/db/migrations"
CRDS = "charts/slipway-operator/crds-source"

SECTION = re.compile(r"^## \[(?P<name>[^\]]+)\](?: - (?P<date>\d{4}-\d{2}-\d{2}))?$", re.MULTILINE)
"""Of the changelog: `## [1.2.3] - 2026-01-31`, the newest one first."""

EXAMPLES = """\
examples:
  make release-check                            may this commit become the release whose version it carries?
  make release-check ARGS="--tag v1.2.3 --json"
  python -m tools.release notes                 the changelog's part of this version
  python -m tools.release charts --images registry.example/slipway --to build/charts
                                                both charts as they are published, for `helm package`
"""


@dataclass(frozen=True, slots=True)
class Check:
    """One condition; `wrong` says what to do about it, a line each."""

    name: str
    wrong: tuple[str, ...]


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tools.release", description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    check = commands.add_parser("check", help="exit code 1 if this commit may not become a release")
    check.add_argument("--tag", help="the tag that is to be, or is, on this commit, such as v1.2.3")
    check.add_argument("--json", action="store_true", help="a list of objects {check, wrong}")
    commands.add_parser("notes", help="print the changelog's part of this version")
    charts = commands.add_parser("charts", help="write the charts as they are published")
    charts.add_argument("--images", required=True, help="registry and path of the images, without their names")
    charts.add_argument("--to", required=True, type=Path, help="a folder that does not exist yet")
    given = parser.parse_args()
    if given.command == "notes":
        print(notes(changelog(), the_version()))
    elif given.command == "charts":
        publishable_charts(given.images, given.to)
    else:
        sys.exit(report(checks(given.tag), as_json=given.json))


def report(found: list[Check], *, as_json: bool) -> int:
    """Prints the checks; the exit code."""
    if as_json:
        print(json.dumps([{"check": each.name, "wrong": each.wrong} for each in found], indent=2))
    for each in () if as_json else found:
        print(f"{'FAILED' if each.wrong else 'ok':7}{each.name}", *(f"       {line}" for line in each.wrong), sep="\n")
    return int(any(each.wrong for each in found))


def checks(tag: str | None, today: date | None = None) -> list[Check]:
    """All of them, also after one has failed."""
    version, last = the_version(), last_tag(tag)
    since = f" since {last}" if last else " (there is no earlier tag)"
    parts: dict[str, Callable[[], Iterator[str]]] = {
        f"the version is {version} everywhere": lambda: wrong_versions(version, tag),
        "everything is committed": uncommitted,
        f"the changelog has {version}": lambda: wrong_changelog(changelog(), version, today or datetime.now(UTC).date()),
        f"no migration has changed{since}": lambda: changed_migrations(last),
        f"no field of v1alpha1 is gone{since}": lambda: lost_fields(last),
        "upgrades from each earlier version are tested": lambda: missing_packages(changelog(), version),
    }
    return [Check(name, tuple(part())) for name, part in parts.items()]


def the_version() -> str:
    return next(match[1] for path, match in places() if path.name == "pyproject.toml")


def changelog() -> str:
    return (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def wrong_versions(version: str, tag: str | None) -> Iterator[str]:
    for path, match in places():
        if match[1] != version:
            yield f"{path.relative_to(ROOT)}: {match[0].strip()}; run make version-set VERSION={version}"
    if tag and tag != f"v{version}":
        yield f"the tag {tag} is not v{version}; run make version-set VERSION={tag.removeprefix('v')} before you tag"


def wrong_changelog(text: str, version: str, today: date) -> Iterator[str]:
    parts = {match["name"]: match for match in SECTION.finditer(text)}
    if version not in parts:
        yield f"CHANGELOG.md: expected `## [{version}] - {today}` below `## [Unreleased]`"
    elif not parts[version]["date"]:
        yield f"CHANGELOG.md: [{version}] has no date"
    elif date.fromisoformat(parts[version]["date"]) > today:
        yield f"CHANGELOG.md: [{version}] is of {parts[version]['date']}, after today"
    elif not notes(text, version):
        yield f"CHANGELOG.md: [{version}] says nothing"
    if "Unreleased" in parts and notes(text, "Unreleased"):
        yield f"CHANGELOG.md: [Unreleased] still has entries; move them below [{version}]"


def notes(text: str, version: str) -> str:
    """What the changelog says of a version; empty if it does not know it."""
    matches = list(SECTION.finditer(text))
    for match, following in zip(matches, [*matches[1:], None], strict=True):
        if match["name"] == version:
            return text[match.end() : following.start() if following else None].strip()
    return ""


def uncommitted() -> Iterator[str]:
    for line in git("status", "--porcelain").splitlines():
        yield f"not committed: {line[3:]}"


def changed_migrations(last: str | None) -> Iterator[str]:
    """A database that has run one never runs it again."""
    if last:
        for line in git("diff", "--name-status", "--no-renames", last, "HEAD", "--", MIGRATIONS).splitlines():
            kind, name = line.split("\t")
            if kind != "A":
                yield f"{name} is not what {last} had; write the change as a new migration"


def lost_fields(last: str | None) -> Iterator[str]:
    """What objects of the last release may say, and this one's CRDs no longer take (docs/operations/upgrade.md, the promise)."""
    if not last:
        return
    for name in git("ls-tree", "-r", "--name-only", last, "--", CRDS).splitlines():
        old = fields(git("show", f"{last}:{name}"))
        path = ROOT / name
        new = fields(path.read_text(encoding="utf-8")) if path.exists() else set()
        for field in sorted(old - new):
            yield f"{name}: {field} was there in {last}"


def fields(crd: str) -> set[str]:
    """Paths of all fields of all versions, such as `v1alpha1.spec.interval`."""
    import yaml  # noqa: PLC0415  # the charts and the notes of a release are written without any package

    found = yaml.safe_load(crd)
    return {
        f"{version['name']}{path}"
        for version in found["spec"]["versions"]
        for path in _paths(version["schema"]["openAPIV3Schema"])
    }


def _paths(schema: dict[str, Any]) -> Iterator[str]:
    for name, below in schema.get("properties", {}).items():
        yield f".{name}"
        yield from (f".{name}{path}" for path in _paths(below))
    for key, sign in (("items", "[]"), ("additionalProperties", "{}")):
        if isinstance(schema.get(key), dict):
            yield from (f"{sign}{path}" for path in _paths(schema[key]))


def missing_packages(text: str, version: str) -> Iterator[str]:
    """tests/e2e/test_upgrade.py upgrades from what lies there."""
    earlier = [match["name"] for match in SECTION.finditer(text) if match["name"] not in ("Unreleased", version)]
    for chart in CHARTS:
        for each in earlier:
            name = f"tests/data/charts/{chart}-{each}.tgz"
            if not (ROOT / name).exists():
                yield f"{name} is missing: git checkout v{each} and helm package charts/{chart}"


def publishable_charts(images: str, to: Path) -> None:
    """Copies the charts to a folder, with the published images as defaults, the licence, and the changes of this version."""
    version = the_version()
    for chart in CHARTS:
        place = to / chart
        shutil.copytree(ROOT / "charts" / chart, place)
        shutil.copy(ROOT / "LICENSE", place)
        _replace(place / "values.yaml", f"  repository: {chart}\n", f"  repository: {images}/{chart}\n")
        metadata = place / "Chart.yaml"
        added = [f"    - name: {chart}\n      image: {images}/{chart}:{version}\n      platforms: [linux/amd64, linux/arm64]\n"]
        text = metadata.read_text(encoding="utf-8").rstrip("\n")
        metadata.write_text(f"{text}\n  artifacthub.io/images: |\n{''.join(added)}{_changes(version)}", encoding="utf-8")


def _changes(version: str) -> str:
    """The annotation of Artifact Hub: a line of the changelog each, without its links."""
    lines = re.split(r"^- ", notes(changelog(), version), flags=re.MULTILINE)[1:]
    plain = [re.sub(r"\[([^\]]+)\]\([^)]+\)", r"\1", " ".join(line.partition("\n### ")[0].split())) for line in lines]
    return "  artifacthub.io/changes: |\n" + "".join(f"    - {json.dumps(line)}\n" for line in plain) if plain else ""


def _replace(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    if text.count(old) != 1:
        raise SystemExit(f"{path}: expected {old.strip()!r} once")
    path.write_text(text.replace(old, new), encoding="utf-8")


def last_tag(tag: str | None) -> str | None:
    """The newest release before this commit, by its history."""
    tags = git("-c", "versionsort.suffix=-", "tag", "--merged", "HEAD", "--sort=-version:refname", "--list", "v*.*.*").split()
    return next((each for each in tags if each != tag), None)


def git(*args: str) -> str:
    return subprocess.run(["git", *args], cwd=ROOT, capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    main()
