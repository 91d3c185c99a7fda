"""What many tests share: one Azurite, and for each test an edX sandbox, tables and a host of its own."""

from collections.abc import Iterator
from uuid import uuid4

import pytest
import requests

from local.azurite import Azurite
from local.host.process import HostProcess
from local.sandbox import Sandbox

SUBSCRIPTION_KEY = "test-subscription-key"


@pytest.fixture(scope="session")
def azurite() -> Iterator[Azurite]:
    """Table Storage for all tests; each uses a table prefix of its own."""
    with Azurite() as azurite:
        yield azurite


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def tables_prefix() -> str:
    return f"T{uuid4().hex}"


@pytest.fixture
def settings(sandbox: Sandbox, azurite: Azurite, tables_prefix: str) -> dict[str, str]:
    """All settings of the functions; a timer that fires once a year fires when a test says so."""
    return {
        **sandbox.settings(),
        "TABLES_CONNECTION_STRING": azurite.connection_string,
        "TABLES_PREFIX": tables_prefix,
        "APIM_SUBSCRIPTION_KEYS": SUBSCRIPTION_KEY,
        "SYNC_SCHEDULE": "0 0 0 1 1 *",
    }


@pytest.fixture
def host(settings: dict[str, str]) -> Iterator[HostProcess]:
    """The functions over HTTP, in a process of their own."""
    with HostProcess(settings) as host:
        yield host


@pytest.fixture
def admin(sandbox: Sandbox) -> Iterator[requests.Session]:
    """An administrator: a session that sends the subscription key and a valid token."""
    with requests.Session() as session:
        session.trust_env = False  # a .netrc would replace the token
        session.headers["Ocp-Apim-Subscription-Key"] = SUBSCRIPTION_KEY
        session.headers["Authorization"] = f"Bearer {sandbox.mint()}"
        yield session
