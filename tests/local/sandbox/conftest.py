"""A sandbox with 45 courses of ours, and a caller with a token."""

from collections.abc import Iterator

import pytest

from local.sandbox import Sandbox
from local.sandbox.catalogs import Catalog
from local.sandbox.sample import make_course
from tests.local.sandbox.caller import Caller


@pytest.fixture
def catalog() -> Catalog:
    return Catalog(1, "Ours", [make_course(f"NUSx+{number}x") for number in range(45)], archived=7)


@pytest.fixture
def sandbox(catalog: Catalog) -> Iterator[Sandbox]:
    others = [Catalog(3, "Theirs", viewers=["somebody-else"]), Catalog(12, "Empty")]
    with Sandbox([catalog, *others]) as sandbox:
        yield sandbox


@pytest.fixture
def edx(sandbox: Sandbox) -> Iterator[Caller]:
    caller = Caller(sandbox)
    with caller.session:
        yield caller
