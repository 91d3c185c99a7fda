"""What the fault suites share; how a fault is judged stands in promise.py."""

from collections.abc import Iterator

import pytest
import requests

from local.azurite import Azurite
from local.sandbox import Sandbox
from tests.conftest import SUBSCRIPTION_KEY
from tests.faults.promise import Stored


@pytest.fixture
def stored(azurite: Azurite, tables_prefix: str) -> Stored:
    """The tables of the test's own `settings`, read directly."""
    return Stored(azurite.connection_string, tables_prefix)


@pytest.fixture(scope="module")
def edx() -> Iterator[Sandbox]:
    """An edX without catalogs, shared by a module whose tests bring a catalog and its faults each."""
    with Sandbox([]) as edx:
        yield edx


@pytest.fixture(scope="module")
def shared_admin(edx: Sandbox) -> Iterator[requests.Session]:
    """An administrator of the host that calls `edx`."""
    with requests.Session() as session:
        session.trust_env = False  # a .netrc would replace the token
        session.headers["Ocp-Apim-Subscription-Key"] = SUBSCRIPTION_KEY
        session.headers["Authorization"] = f"Bearer {edx.mint()}"
        yield session
