"""docs/reliability.md names a test for each promise: none of them may be missing."""

import re
from pathlib import Path

_TESTS = Path(__file__).parents[1]
_DOC = _TESTS.parent / "docs" / "reliability.md"


def test_every_proof_exists() -> None:
    proofs = re.findall(r"`(?:tests/)?(\w+\.py)::(\w+)`", _DOC.read_text("utf-8"))
    assert len(proofs) > 30
    for file, test in proofs:
        assert any(f"def {test}(" in path.read_text("utf-8") for path in _TESTS.rglob(file)), (file, test)
