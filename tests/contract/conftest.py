"""Each test that takes `start` or `caller` runs on the replacement host and on the worker."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

import pytest

from local.azurite import Azurite
from local.host.process import HostProcess
from local.sandbox import Sandbox
from tests.attacks import honest_headers
from tests.conftest import settings_of
from tests.contract.callers import Caller, Start, on_worker, over_http
from tests.worker.harness import APP_DIRECTORY, FunctionsWorker

# azure-functions-runtime, the worker of Python 3.13 and later in Azure, exists for those only.
ON_WORKER = pytest.param("worker", marks=pytest.mark.skipif(sys.version_info < (3, 13), reason="no worker"))


@pytest.fixture(scope="module", params=["host", ON_WORKER])
def start(
    request: pytest.FixtureRequest,
    sandbox: Sandbox,
    azurite: Azurite,
    tmp_path_factory: pytest.TempPathFactory,
) -> Start:
    @contextmanager
    def start() -> Iterator[Caller]:
        settings = settings_of(sandbox, azurite.connection_string, f"T{uuid4().hex}")
        proofs = honest_headers(sandbox)
        settings["APIM_SUBSCRIPTION_KEYS"] = f"another-key, {proofs['Ocp-Apim-Subscription-Key']}"
        if request.param == "host":
            with HostProcess(settings) as host:
                yield Caller(over_http(host), proofs)
        else:
            log = tmp_path_factory.mktemp("worker") / "log.txt"
            with FunctionsWorker(APP_DIRECTORY, settings, log) as worker:
                yield Caller(on_worker(worker), proofs)

    return start


@pytest.fixture(scope="module")
def started(start: Start) -> Iterator[Caller]:
    with start() as caller:
        yield caller


@pytest.fixture
def caller(started: Caller, sandbox: Sandbox) -> Iterator[Caller]:
    sandbox.forget_requests()
    yield started
    sandbox.rules.clear()
