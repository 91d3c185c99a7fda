"""Lines of syncs are logged by the invocation that flushes them: in order, each once, with a limit."""

import logging
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from shared.serving.outbox import Outbox


def test_lines_of_other_threads_are_logged_once_and_in_order_by_the_thread_that_flushes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    outbox = Outbox()
    with ThreadPoolExecutor(1) as elsewhere:
        elsewhere.submit(outbox.say, logging.INFO, '{"event": "sync", "share": "20 %s"}').result()
        elsewhere.submit(outbox.say, logging.ERROR, "failed").result()
    assert caplog.records == []
    outbox.flush()
    outbox.flush()
    assert [(record.levelno, record.getMessage(), record.thread) for record in caplog.records] == [
        (logging.INFO, '{"event": "sync", "share": "20 %s"}', threading.get_ident()),
        (logging.ERROR, "failed", threading.get_ident()),
    ]


def test_oldest_lines_are_dropped_and_counted_when_no_invocation_logs_them(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    outbox = Outbox()
    for number in range(1_003):
        outbox.say(logging.INFO, f"line {number}")
    outbox.flush()
    assert caplog.messages[:2] == [
        "3 log lines of earlier syncs were dropped, because no invocation logged them in time",
        "line 3",
    ]
    assert caplog.messages[-1] == "line 1002"
    assert len(caplog.messages) == 1_001
    outbox.say(logging.INFO, "later")
    outbox.flush()
    assert caplog.messages[1_001:] == ["later"]
