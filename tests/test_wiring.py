"""The wiring of the parts: the real ones by default, or those of a test."""

import json
import logging
import re
from pathlib import Path

import pytest

from shared.errors import ConfigurationError
from shared.serving.outbox import Outbox
from shared.wiring import REQUEST_THREADS, connect, connect_access

REPOSITORY = Path(__file__).parents[1]
EXAMPLE: dict[str, str] = json.loads((REPOSITORY / "local.settings.example.json").read_text())["Values"]


def test_access_is_built_without_any_other_setting() -> None:
    access = {name: value for name, value in EXAMPLE.items() if name.startswith(("APIM_", "ADMIN_"))}
    connect_access(Outbox(), access)
    with pytest.raises(ConfigurationError, match="EDX_CLIENT_ID"):
        connect(Outbox(), access)
    with pytest.raises(ConfigurationError, match="APIM_SUBSCRIPTION_KEYS"):
        connect_access(Outbox(), {})


@pytest.mark.parametrize(("seconds", "warned"), [("220", False), ("221", True), ("100000", True)])
def test_warning_is_logged_when_the_wait_is_longer_than_the_platform_allows(
    seconds: str, caplog: pytest.LogCaptureFixture, *, warned: bool
) -> None:
    outbox = Outbox()
    connect(outbox, {**EXAMPLE, "SYNC_TIME_BUDGET_SECONDS": seconds})
    outbox.flush()
    sentence = (
        "SYNC_TIME_BUDGET_SECONDS is more than 220, so 220 is used: the platform ends a request after 230 s"
    )
    assert caplog.record_tuples == ([("shared.serving.outbox", logging.WARNING, sentence)] if warned else [])


def test_number_of_request_threads_equals_the_concurrency_of_the_host() -> None:
    bicep = (REPOSITORY / "infra" / "app.bicep").read_text()
    (concurrency,) = re.findall(r"^var httpConcurrency = (\d+)$", bicep, re.MULTILINE)
    assert int(concurrency) == int(EXAMPLE["PYTHON_THREADPOOL_THREAD_COUNT"]) == REQUEST_THREADS
