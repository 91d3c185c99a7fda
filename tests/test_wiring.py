"""The wiring of the parts: the real ones by default, or those of a test."""

import asyncio
import json
import logging
import re
from datetime import timedelta
from pathlib import Path

import pytest

from local.sandbox import Sandbox
from local.sandbox.faults import throttle
from shared.errors import AccessUnavailable, ConfigurationError, EdxThrottled
from shared.serving.outbox import Outbox
from shared.storage.tables import Tables
from shared.sync.run import Origin
from shared.wiring import REQUEST_THREADS, connect, connect_access
from tests.clock import Clock

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


def test_time_is_that_of_the_given_clock_and_lines_for_the_log_wait_in_the_outbox(
    settings: dict[str, str], sandbox: Sandbox, tables: Tables, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    outbox = Outbox()
    connector = connect(
        outbox, settings, tables=tables, now=clock.now, clock=clock.monotonic, sleep=clock.sleep
    )
    first, *_ = connector.catalogs.ask(Origin("timer")).catalog_ids
    listed = tables.account.catalog_list()
    assert listed
    assert listed.listed_at == clock.now()
    sandbox.on("/courses/", throttle(3592))
    with pytest.raises(EdxThrottled) as throttled:
        connector.syncer.sync(first, Origin("timer"))
    assert throttled.value.retry_at == clock.now() + timedelta(seconds=3592)
    assert caplog.messages == []
    outbox.flush()
    assert [json.loads(line)["catalog"] for line in caplog.messages] == [first]


def test_failure_to_fetch_the_keys_for_tokens_waits_in_the_outbox(
    settings: dict[str, str], sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    outbox = Outbox()
    access = connect_access(outbox, {**settings, "ADMIN_JWKS_URL": f"{sandbox.url}nothing"})
    with pytest.raises(AccessUnavailable):
        asyncio.run(access.check_admin(f"Bearer {sandbox.mint()}"))
    assert caplog.messages == []
    outbox.flush()
    assert [json.loads(line)["event"] for line in caplog.messages] == ["jwks"]


def test_number_of_request_threads_equals_the_concurrency_of_the_host() -> None:
    bicep = (REPOSITORY / "infra" / "app.bicep").read_text()
    (concurrency,) = re.findall(r"^var httpConcurrency = (\d+)$", bicep, re.MULTILINE)
    assert int(concurrency) == int(EXAMPLE["PYTHON_THREADPOOL_THREAD_COUNT"]) == REQUEST_THREADS
