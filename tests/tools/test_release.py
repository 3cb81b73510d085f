"""tools/release.py: what is refused before a tag, and the charts as they are published."""

import json
import subprocess
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest
import yaml

from tests.support.charts import one, render
from tools import release

TODAY = date(2026, 11, 29)
CHANGELOG = """\
# Changelog

## [Unreleased]

## [0.2.0] - 2026-11-28

### Added

- A [page](docs/x.md) of
  two lines.
- Another.

### Removed

- Nothing.

## [0.1.0] - 2026-10-01

- The first.
"""


def refused(change: Callable[[str], str], version: str = "0.2.0") -> str:
    return "\n".join(release.wrong_changelog(change(CHANGELOG), version, TODAY))


def test_a_changelog_of_a_release_is_whole() -> None:
    assert refused(lambda text: text) == ""
    assert "expected `## [0.3.0] - 2026-11-29`" in refused(lambda text: text, "0.3.0")
    assert "has no date" in refused(lambda text: text.replace(" - 2026-11-28", ""))
    assert "after today" in refused(lambda text: text.replace("2026-11-28", "2026-11-30"))
    assert "says nothing" in refused(lambda text: text.replace("0.2.0] - 2026-11-28\n", "0.2.0] - 2026-11-28\n\n## [0.1.9]\n"))
    assert "[Unreleased] still has" in refused(lambda text: text.replace("[Unreleased]\n", "[Unreleased]\n\n- More.\n"))


def test_notes_are_the_part_of_one_version() -> None:
    assert release.notes(CHANGELOG, "0.1.0") == "- The first."
    assert release.notes(CHANGELOG, "0.2.0").startswith("### Added\n\n- A [page]")
    assert release.notes(CHANGELOG, "0.2.0").endswith("- Nothing.")
    assert release.notes(CHANGELOG, "0.2") == ""


def git(folder: Path, *args: str) -> None:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "commit.gpgsign=false", "-c", "tag.gpgsign=false"]
    subprocess.run(["git", *identity, *args], cwd=folder, check=True, capture_output=True)


def crd(**properties: object) -> str:
    schema = {"properties": {"spec": {"properties": properties}}}
    return yaml.dump(
        {"spec": {"versions": [{"name": "v1alpha1", "schema": {"openAPIV3Schema": schema}}]}}, Dumper=yaml.CSafeDumper
    )


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With a release, v0.1.0, and nothing after it."""
    for name, content in {
        f"{release.MIGRATIONS}/0001_first.sql": "SELECT 1;",
        f"{release.CRDS}/keys.yaml": crd(interval={}, targets={"items": {"properties": {"name": {}}}}),
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True)
        path.write_text(content, encoding="utf-8")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--message=first")
    git(tmp_path, "tag", "v0.1.0")
    monkeypatch.setattr(release, "ROOT", tmp_path)
    return tmp_path


def test_a_migration_and_a_field_that_were_released_stay(repository: Path) -> None:
    git(repository, "tag", "v0.1.0-rc.1")
    assert (release.last_tag(None), release.last_tag("v0.1.0")) == ("v0.1.0", "v0.1.0-rc.1")
    (repository / release.MIGRATIONS / "0002_second.sql").write_text("SELECT 2;", encoding="utf-8")
    (repository / release.CRDS / "keys.yaml").write_text(
        crd(interval={}, more={}, targets={"items": {"properties": {"name": {}, "key": {}}}}), encoding="utf-8"
    )
    assert [*release.uncommitted()] == [
        f"not committed: {release.CRDS}/keys.yaml",
        f"not committed: {release.MIGRATIONS}/0002_second.sql",
    ]
    git(repository, "add", ".")
    git(repository, "commit", "--quiet", "--message=more")
    assert [*release.uncommitted(), *release.changed_migrations("v0.1.0"), *release.lost_fields("v0.1.0")] == []

    (repository / release.MIGRATIONS / "0001_first.sql").write_text("SELECT 3;", encoding="utf-8")
    (repository / release.CRDS / "keys.yaml").write_text(crd(targets={"items": {"properties": {"key": {}}}}), encoding="utf-8")
    git(repository, "commit", "--quiet", "--all", "--message=less")

    assert [*release.changed_migrations("v0.1.0")] == [
        f"{release.MIGRATIONS}/0001_first.sql is not what v0.1.0 had; write the change as a new migration"
    ]
    assert [*release.lost_fields("v0.1.0")] == [
        f"{release.CRDS}/keys.yaml: v1alpha1.spec.interval was there in v0.1.0",
        f"{release.CRDS}/keys.yaml: v1alpha1.spec.targets[].name was there in v0.1.0",
    ]
    (repository / release.CRDS / "keys.yaml").unlink()
    assert len([*release.lost_fields("v0.1.0")]) == 4


def test_each_earlier_version_has_its_charts_for_the_test_of_upgrades(repository: Path) -> None:
    (repository / "tests/data/charts").mkdir(parents=True)
    (repository / "tests/data/charts/slipway-0.1.0.tgz").touch()

    assert [line.split()[0] for line in release.missing_packages(CHANGELOG, "0.2.0")] == [
        "tests/data/charts/slipway-operator-0.1.0.tgz"
    ]
    assert [*release.missing_packages(CHANGELOG, "0.1.0")] != []


def test_a_tag_of_another_version_is_refused() -> None:
    version = release.the_version()
    assert [*release.wrong_versions(version, f"v{version}")] == []
    assert [*release.wrong_versions(version, "v9.9.9")] == [
        f"the tag v9.9.9 is not v{version}; run make version-set VERSION=9.9.9 before you tag"
    ]


@pytest.mark.parametrize("name", release.CHARTS)
def test_a_published_chart_pulls_the_published_image_and_describes_itself(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = release.the_version()
    monkeypatch.setattr(release, "changelog", lambda: CHANGELOG.replace("0.2.0", version))

    release.publishable_charts("registry.example/slipway", tmp_path / "charts")

    chart = tmp_path / "charts" / name
    image = f"registry.example/slipway/{name}:{version}"
    deployment = one(render(chart, {}), "Deployment")
    assert image in {each["image"] for each in deployment["spec"]["template"]["spec"]["containers"]}
    annotations = yaml.load((chart / "Chart.yaml").read_text(encoding="utf-8"), yaml.CSafeLoader)["annotations"]
    assert [each["image"] for each in yaml.load(annotations["artifacthub.io/images"], yaml.CSafeLoader)] == [image]
    assert yaml.load(annotations["artifacthub.io/changes"], yaml.CSafeLoader) == ["A page of two lines.", "Another.", "Nothing."]
    assert (
        (chart / "LICENSE").read_text(encoding="utf-8").startswith((release.ROOT / "LICENSE").read_text(encoding="utf-8")[:100])
    )


def test_the_report_is_a_line_a_check_and_fails_when_one_does(capsys: pytest.CaptureFixture[str]) -> None:
    found = [release.Check("one", ()), release.Check("two", ("mend it",))]

    assert (release.report(found, as_json=False), release.report(found[:1], as_json=True)) == (1, 0)

    text, _, listed = capsys.readouterr().out.partition("[\n")
    assert text == "ok     one\nFAILED two\n       mend it\n"
    assert json.loads("[" + listed) == [{"check": "one", "wrong": []}]
