"""The chat page's files: as they were released, served, packed, and without what the CSP forbids."""

import base64
import hashlib
import json
import re
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

from agent_service.api.page import MEDIA_TYPES, SWAGGER, site

ROOT = Path(__file__).parent.parent.parent
STATIC = ROOT / "service" / "agent_service" / "static"
VENDORS = [STATIC / "vendor", ROOT / "tests" / "support" / "vendor"]
SCRIPTS = sorted((STATIC / "js").glob("*.js"))
CHECK = ROOT / "tools" / "page_check"

OUR_TYPES = (".d.ts", ".d.mts")
"""What tsc reads in place of a library's script, which has to stand beside it: no file of the library."""


@pytest.mark.parametrize("vendor", VENDORS, ids=["page", "tests"])
def test_vendored_files_are_those_of_the_manifest_to_the_byte(vendor: Path) -> None:
    manifest = json.loads((vendor / "manifest.json").read_text())
    listed = {name: digest for library in manifest.values() for name, digest in library["files"].items()}
    found = {
        path.relative_to(vendor).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for folder in vendor.iterdir()
        if folder.is_dir()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.endswith(OUR_TYPES)
    }
    assert found == listed
    for name, library in manifest.items():
        assert len(base64.b64decode(library["integrity"].removeprefix("sha512-"))) == 64
        assert f"{name}/LICENSE" in library["files"]
        bundled = {f"{name}/licenses/{part.rpartition('@')[0]}.txt" for part in library["bundles"]}
        assert bundled <= library["files"].keys()
        assert any(library["version"].encode() in path.read_bytes() for path in (vendor / name).glob("*.*js"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_parses_and_imports_what_is_there(script: Path) -> None:
    text = script.read_text()
    for name in re.findall(r'^import .* from "(.*)";$', text, re.MULTILINE):
        assert (script.parent / name).is_file()
    if node := shutil.which("node"):  # a browser parses them in any case: tests/integration/page
        subprocess.run([node, "--input-type=module", "--check"], input=text, text=True, check=True)


def test_scripts_import_each_other_in_one_direction() -> None:
    imports = {path.name: set(re.findall(r'^import .* from "\./(.*)";$', path.read_text(), re.MULTILINE)) for path in SCRIPTS}
    while leaves := {name for name, needed in imports.items() if not needed & imports.keys()}:
        imports = {name: needed for name, needed in imports.items() if name not in leaves}
    assert imports == {}


def test_no_script_makes_markup_or_code_of_a_string_and_the_html_has_nothing_inline() -> None:
    scripts = "".join(path.read_text() for path in SCRIPTS)
    assert (
        re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|srcdoc|DOMParser", scripts)
        == []
    )
    html = "".join(path.read_text() for path in STATIC.glob("*.html"))
    assert re.findall(r"<style|\sstyle=|\son[a-z]+=|<script(?![^>]*\ssrc=)|javascript:|https?://", html) == []


def test_every_file_that_the_page_may_load_is_served() -> None:
    names = {path.relative_to(STATIC).as_posix() for path in STATIC.rglob("*") if path.suffix in MEDIA_TYPES}
    assert site().assets.keys() == {name for name in names - site().pages.keys() if not name.startswith(f"{SWAGGER}/")}
    linked = [each for page in site().pages.values() for each in re.findall(rb'"static/([^"/]+)/([^"]+)"', page.body)]
    assert {name.rpartition(b".")[2] for _, name in linked} == {b"css", b"js", b"svg"}
    for version, name in linked:
        assert version.decode() == site().version
        assert name.decode() in site().assets


def test_the_wheel_holds_the_page(tmp_path: Path) -> None:
    from hatchling.builders.wheel import WheelBuilder  # noqa: PLC0415  # only this test builds

    built = next(WheelBuilder(str(ROOT / "service")).build(directory=str(tmp_path), versions=["standard"]))
    with zipfile.ZipFile(built) as wheel:
        names = set(wheel.namelist())
    static = {path.relative_to(STATIC).as_posix() for path in STATIC.rglob("*") if path.is_file()}
    assert {f"agent_service/static/{name}" for name in static} <= names


def test_the_elements_that_tsc_knows_are_those_of_the_html() -> None:
    """It checks the type of each by this list; that they are there at all, only this test does."""
    declared = (CHECK / "types" / "page.d.ts").read_text().partition("interface PageElements {")[2].partition("}")[0]
    listed = set(re.findall(r'^  "?([a-z-]+)"?: ', declared, re.MULTILINE))
    html = "".join(path.read_text() for path in STATIC.glob("*.html"))
    scripts = "".join(path.read_text() for path in SCRIPTS)
    assert listed - set(re.findall(r'\bid="([a-z-]+)"', html)) == {"empty"}, "made by facts.js"
    assert set(re.findall(r'byId\("([a-z-]+)"\)', scripts)) <= listed


def test_the_tools_that_check_the_page_are_pinned_by_their_integrity() -> None:
    wanted = json.loads((CHECK / "package.json").read_text())["devDependencies"]
    lock = (CHECK / "package-lock.json").read_text()
    packages = json.loads(lock)["packages"]
    assert "://" not in lock, "npm adds where to fund a package: take it out"
    assert {name: packages[f"node_modules/{name}"]["version"] for name in wanted} == wanted
    for name, package in packages.items():
        assert not name or package["integrity"].startswith("sha512-")
        assert "resolved" not in package
