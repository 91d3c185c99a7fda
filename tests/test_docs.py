"""Links and tests that the docs name exist."""

import re
from pathlib import Path

import pytest

_REPOSITORY = Path(__file__).parents[1]
_DOCS = sorted([*_REPOSITORY.glob("*.md"), *_REPOSITORY.glob("docs/**/*.md")])


def test_every_test_exists_that_the_docs_name() -> None:
    proofs = re.findall(r"(test_\w+\.py)::(test_\w+)", (_REPOSITORY / "docs" / "reliability.md").read_text())
    tests = {
        (file.name, name)
        for file in (_REPOSITORY / "tests").rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", file.read_text(), re.MULTILINE)
    }

    assert len(proofs) > 30
    assert [proof for proof in proofs if proof not in tests] == []


@pytest.mark.parametrize("doc", _DOCS, ids=lambda doc: doc.name)
def test_every_link_into_the_repository_leads_to_a_file(doc: Path) -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", doc.read_text())

    assert [link for link in links if not (doc.parent / link).exists()] == []
