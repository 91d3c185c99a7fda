"""The worker for the tests here, with the sandbox for edX and Azurite for storage."""

import sys
from collections.abc import Iterator
from uuid import uuid4

import pytest

from local.azurite import Azurite
from local.sandbox import Sandbox
from tests.attacks import KEY
from tests.worker.harness import APP_DIRECTORY, FunctionsWorker, StartWorker

# azure-functions-runtime, the worker of Python 3.13 and later in Azure, exists for those only.
collect_ignore_glob = ["test_*.py"] if sys.version_info < (3, 13) else []


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def start_worker(sandbox: Sandbox, azurite: Azurite, tmp_path_factory: pytest.TempPathFactory) -> StartWorker:
    """Start the app with the settings of sandbox and Azurite, its own tables, and a test's settings."""
    environment = {
        **sandbox.settings(),
        "APIM_SUBSCRIPTION_KEYS": f"a-key-that-goes,{KEY}",
        "TABLES_CONNECTION_STRING": azurite.connection_string,
    }

    def start(**settings: str) -> FunctionsWorker:
        prefix = f"T{uuid4().hex}"
        log_path = tmp_path_factory.mktemp("worker") / "log.txt"
        return FunctionsWorker(APP_DIRECTORY, {**environment, "TABLES_PREFIX": prefix, **settings}, log_path)

    return start
