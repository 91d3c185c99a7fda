"""Processes whose clocks differ."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from local.host.process import HostProcess
from local.sandbox.catalogs import Catalog
from shared.api.contract import parse_freshness
from shared.deadline import Deadline
from shared.domain.query import Question
from shared.serving.answering import Answering, Reader
from shared.serving.outbox import Outbox
from shared.sync.run import Origin
from shared.wiring import connect
from tests.faults.promise import assert_reached, assert_shows, runs_of
from tests.faults.stage import Stage

SHIFTED_CLOCK = """
import datetime, time

_real, _time, _shift_s = datetime.datetime, time.time, {shift_s}

class _Kind(type(_real)):  # isinstance(…, datetime) must mean the real class
    def __instancecheck__(cls, value):
        return isinstance(value, _real) if cls is _Shifted else type.__instancecheck__(cls, value)

class _Shifted(_real, metaclass=_Kind):
    def __new__(cls, *args, **kwargs):
        return _real.__new__(_real if cls is _Shifted else cls, *args, **kwargs)

    @classmethod
    def now(cls, tz=None):
        return _real.now(tz) + datetime.timedelta(seconds=_shift_s)

    @classmethod
    def utcnow(cls):
        return cls.now(datetime.timezone.utc).replace(tzinfo=None)

datetime.datetime = _Shifted
time.time = lambda: _time() + _shift_s
"""


def test_answers_stay_true_when_the_clocks_of_two_processes_differ_by_14_minutes(
    stage: Stage, healthy: HostProcess, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(SHIFTED_CLOCK.format(shift_s=-14 * 60))
    # A token without a time before which it is invalid: the clock of the slow process is behind.
    stage.admin.headers["Authorization"] = f"Bearer {stage.edx.mint(nbf=0, iat=0)}"
    with stage.host(PYTHONPATH=f"{tmp_path}:{Path(__file__).parents[2]}") as slow:
        shelf = stage.synced_shelf(healthy)
        with stage.watched(healthy, [shelf]), stage.watched(slow, [shelf]):
            for host, other, age_s in ((slow, healthy, 14 * 60), (healthy, slow, 0)) * 2:
                stage.change(shelf)
                assert_reached(stage.ask(host, shelf), stage.stored, shelf)
                cached = stage.ask(other, shelf, "only-if-cached")
                assert_shows(cached, runs_of(shelf))
                assert age_s <= int(cached.headers["Age"]) < age_s + 10
                # The other process cannot tell how old it is, so it does not treat it as fresh.
                stage.change(shelf)
                assert_reached(stage.ask(other, shelf, "max-age=600"), stage.stored, shelf)


def test_freshness_is_wrong_by_the_difference_of_the_clocks_at_most_when_one_is_ahead_and_one_behind(
    stage: Stage, healthy: HostProcess
) -> None:
    shelf = stage.synced_shelf(healthy)
    catalogues = [at_clock(stage, shelf, shift) for shift in (TEN_MINUTES, -TEN_MINUTES)]
    for _ in range(2):
        for syncing, other in (catalogues, catalogues[::-1]):
            stage.change(shelf)
            tag, age_s, body = ask_here(syncing, "no-cache")
            assert body == stage.states[shelf.id][-1]
            assert 0 <= age_s <= 2
            # For the other it is 20 minutes in the past or in the future: too far to be fresh.
            other_tag, age_s, body = ask_here(other, "only-if-cached")
            assert (other_tag, body) == (tag, stage.states[shelf.id][-1])
            assert 0 <= age_s <= 2 * TEN_MINUTES.total_seconds() + 10
            stage.edx.forget_requests()
            ask_here(syncing, "max-age=60")
            assert stage.pulls_of(shelf) == 0
            ask_here(other, "max-age=600")
            assert stage.pulls_of(shelf) == 1
    assert_shows(stage.ask(healthy, shelf), runs_of(shelf))


TEN_MINUTES = timedelta(minutes=10)


def at_clock(stage: Stage, shelf: Catalog, shift: timedelta) -> Answering:
    """Make a connector whose clock is wrong by `shift`."""
    settings = {**stage.settings, "EDX_CATALOG_IDS": str(shelf.id)}
    return connect(Outbox(), settings, now=lambda: datetime.now(UTC) + shift).answering


def ask_here(answering: Answering, cache_control: str) -> tuple[str, int, Any]:
    """Ask a connector in this process, and return the ETag, the age in seconds and the body."""
    question = Question(None, None, parse_freshness(cache_control))
    answer = asyncio.run(
        answering.answer(question, Reader(takes_gzip=False), Origin("http"), Deadline.after(60))
    )
    assert answer.body is not None
    return answer.tag, answer.age_s, json.loads(answer.body)
