"""What must hold over the whole repository: names, versions, lock files, addresses."""

import re
import subprocess
import tomllib
import zipfile
from collections import Counter
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml

from tools.version_set import PLACES, places

ROOT = Path(__file__).parent.parent.parent
LOCKS = ("dev", "docs", "run", "build", "service", "operator")
COMPONENTS = ("clients", "doctor", "monitoring", "operator", "service")

# Put together, so that this file does not find itself.
FORBIDDEN = [
    re.compile(pattern)
    for pattern in (
        "/" + r"(?:work|home|Users)/[a-z]",  # a machine's paths
        "/root" + "/",
        r"files\.python" + "hosted|/simple" + "/",  # package indexes
        # image registries; the path of an API group (…k8s.io/v1/…) is none
        r"(?!(?<=k8)s\.io/v\d)(?:[a-z]\.|gcr|ghcr|quay)\.?" + r"io/[a-z0-9-]+/",
        "docker" + r"\.io|dkr\.ecr\.|azure" + "cr",
    )
]
ALLOWED = {"LICENSE"}


MOST_LINES = 440
"""Of one module: it is one thought. CONTRIBUTING.md says about 400."""


@pytest.mark.parametrize("component", COMPONENTS)
def test_no_two_modules_of_a_component_have_the_same_name(component: str) -> None:
    names = Counter(path.name for path in (ROOT / component).rglob("*.py") if path.name != "__init__.py")

    assert names
    assert [name for name, count in names.items() if count > 1] == []


@pytest.mark.parametrize("component", COMPONENTS)
def test_no_module_is_longer_than_a_thought(component: str) -> None:
    # settings.py is a list, and as long as there are settings
    modules = (path for path in (ROOT / component).rglob("*.py") if path.name != "settings.py")
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in modules}

    assert [str(path) for path, lines in lengths.items() if lines > MOST_LINES] == []


def tracked() -> Iterator[Path]:
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.decode().split("\0")
    yield from (ROOT / name for name in names if name and (ROOT / name).is_file())


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


def normalize(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def project(component: str) -> dict[str, Any]:
    table: dict[str, Any] = tomllib.loads(text_of(ROOT / component / "pyproject.toml"))["project"]
    return table


def needs(component: str) -> set[str]:
    """Names of the packages that a component declares, and of those that its sister components declare."""
    own = names(project(component)["dependencies"])
    sisters = {name.removeprefix("slipway-") for name in own if name.startswith("slipway-")}
    return {name for name in own if not name.startswith("slipway-")}.union(*map(needs, sisters))


def names(*lists: list[str]) -> set[str]:
    requirements = [item for each in lists for item in each if ";" not in item]
    return {normalize(re.split(r"[\[<>=!~ ]", item)[0]) for item in requirements}


def declared() -> dict[str, set[str]]:
    """Names of the declared dependencies by lock file."""
    groups = tomllib.loads(text_of(ROOT / "pyproject.toml"))["dependency-groups"]
    extras = [extra for each in COMPONENTS for extra in project(each).get("optional-dependencies", {}).values()]
    build = names(groups["build"])
    return {
        "service": needs("service"),
        "operator": needs("operator"),
        "build": build,
        "docs": names(groups["docs"]),
        "run": needs("service") | needs("doctor") | names(project("service")["optional-dependencies"]["embedded"]) | build,
        "dev": build.union(*map(needs, COMPONENTS), names(*extras, groups["test"], groups["check"])),
    }


def locked(lock: str) -> dict[str, str]:
    """Name to version."""
    return {
        normalize(name): pinned
        for name, pinned in re.findall(
            r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==([^ ;\\]+)", text_of(ROOT / "requirements" / f"{lock}.txt"), re.MULTILINE
        )
    }


@pytest.mark.parametrize("folder", COMPONENTS)
def test_a_component_folder_is_no_package(folder: str) -> None:
    """`operator/__init__.py` would replace the standard library's module in every `python -m` from the root."""
    assert not (ROOT / folder / "__init__.py").exists()


def test_the_version_is_one() -> None:
    installed = {version(project(component)["name"]) for component in COMPONENTS}

    assert {match[1] for _, match in places()} == installed
    assert len(installed) == 1


@pytest.mark.parametrize("lock", ["service", "operator"])
def test_an_image_holds_nothing_that_builds_it(lock: str) -> None:
    assert {"hatchling", "editables"} & set(locked(lock)) == set()


def test_every_place_of_the_version_is_found() -> None:
    files = {glob: set(ROOT.glob(glob)) for glob in PLACES}

    assert [glob for glob, found in files.items() if not found] == []
    assert set().union(*files.values()) == {path for path, _ in places()}


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_file_has_every_declared_package(lock: str) -> None:
    assert declared()[lock] - set(locked(lock)) == set()


@pytest.mark.parametrize("lock", LOCKS)
def test_every_locked_package_has_a_hash(lock: str) -> None:
    text = text_of(ROOT / "requirements" / f"{lock}.txt")
    requirements = re.split(r"^(?=[A-Za-z0-9])", re.sub(r"^ *#.*\n", "", text, flags=re.MULTILINE), flags=re.MULTILINE)[1:]

    assert [item.split("==")[0] for item in requirements if "--hash=sha256:" not in item] == []


@pytest.mark.parametrize("lock", ["run", "build", "service", "operator"])
def test_what_runs_is_what_was_tested(lock: str) -> None:
    tested = locked("dev")

    assert {name: pinned for name, pinned in locked(lock).items() if tested.get(name) != pinned} == {}


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_file_names_no_address(lock: str) -> None:
    assert re.findall(r"https?://|--(?:extra-)?index|--find-links", text_of(ROOT / "requirements" / f"{lock}.txt")) == []


def test_no_tracked_file_names_a_machine_path_or_a_registry() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in tracked()
        if path.name not in ALLOWED
        for pattern in FORBIDDEN
        if (match := pattern.search(text_of(path)))
    ]

    assert found == []


@pytest.mark.parametrize("component", COMPONENTS)
def test_a_wheel_holds_its_own_package_and_the_license(component: str, tmp_path: Path) -> None:
    from hatchling.builders.wheel import WheelBuilder  # noqa: PLC0415  # only tests of wheels build

    (package,) = (path.parent.name for path in (ROOT / component).glob("*/__init__.py"))
    built = next(WheelBuilder(str(ROOT / component)).build(directory=str(tmp_path), versions=["standard"]))
    with zipfile.ZipFile(built) as wheel:
        names = wheel.namelist()

    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {package}
    assert [name for name in names if name.endswith(".dist-info/licenses/LICENSE")]
    assert f"{package}/py.typed" in names


def test_the_workflow_runs_what_developers_run_and_pins_what_it_takes() -> None:
    workflow = yaml.load(text_of(ROOT / ".github/workflows/ci.yml"), yaml.CSafeLoader)
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    used = [step["uses"] for step in steps if "uses" in step]

    assert workflow["permissions"] == {"contents": "read"}
    assert ".ci/run" in [step.get("run") for step in steps]
    assert [each for each in used if not re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", each)] == []
    assert all("timeout-minutes" in job for job in workflow["jobs"].values())
    targets = set(re.findall(r"^FROM runtime AS (\w+)$", text_of(ROOT / "Dockerfile"), re.MULTILINE))
    assert {match for step in steps for match in re.findall(r"--target (\w+)", step.get("run", ""))} == targets
