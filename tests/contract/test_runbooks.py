"""The pages that a release serves at /runbooks are docs/runbooks."""

from tools import runbook_pages


def test_the_pages_are_those_of_docs() -> None:
    found = {
        str(each.relative_to(runbook_pages.PAGES)): each.read_text(encoding="utf-8")
        for each in runbook_pages.PAGES.rglob("*")
        if each.is_file()
    }

    assert found == runbook_pages.rendered(), "run: make runbooks"
