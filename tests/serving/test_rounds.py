"""The timer's round: which catalogs it syncs, how it fails, and its log line."""

import asyncio
import json
from datetime import timedelta
from typing import Any

import pytest

from shared.deadline import Deadline
from shared.domain.attempts import Attempts
from shared.domain.catalog_list import CatalogList
from shared.errors import ConnectorError, EdxUnavailable, Failure, StorageError
from shared.serving.rounds import Rounds
from shared.sync.run import Origin
from tests.serving.fakes import NOW, House, Sync

AWAY = EdxUnavailable("edX is away")


class Round:
    """One round of the timer: its error and its log line."""

    def __init__(self, house: House, seconds: float = 5) -> None:
        _, catalogs, store = house.parts
        rounds = Rounds(store, catalogs, house.syncs, pool=house.pool, now=house.clock.now)
        lines: list[str] = []
        self.error: ConnectorError | None = None
        try:
            asyncio.run(rounds.sync_all(Origin("timer"), Deadline.after(seconds), lines.append))
        except ConnectorError as error:
            self.error = error
        (self.text,) = lines
        self.line: dict[str, Any] = json.loads(self.text)
        self.synced = [catalog_id for catalog_id, _ in house.syncer.begun]


def test_every_catalog_is_synced_eagerly_and_its_state_is_logged() -> None:
    house = House([1, 2])
    house.store.publish(1, [], at=NOW - timedelta(seconds=90.9))
    house.store.attempts[2] = Attempts(
        attempted_at=NOW,
        failures=3,
        failed_at=NOW,
        failure=Failure("MassLoss", "edX no longer shows 100 runs"),
    )
    house.catalogs.list = CatalogList((1, 2), NOW, left=(7,))
    done = Round(house)
    assert done.error is None
    assert house.syncer.begun == [(1, True), (2, True)]
    assert house.catalogs.asked == [True]
    assert done.line == {
        "event": "catalogs",
        "trigger": "timer",
        "catalogs": [
            {
                "catalog": 1, "succeeded": "2026-03-01T11:58:29Z", "age_s": 90, "failures": 0, "failed": None,
                "error": None, "left_list": False,
            },
            {
                "catalog": 2, "succeeded": None, "age_s": None, "failures": 3,
                "failed": "2026-03-01T12:00:00Z", "error": "edX no longer shows 100 runs", "left_list": False,
            },
            {
                "catalog": 7, "succeeded": None, "age_s": None, "failures": 0, "failed": None, "error": None,
                "left_list": True,
            },
        ],
        "error": None,
    }  # fmt: skip


def test_round_fails_after_the_others_were_synced_when_one_catalog_fails() -> None:
    house = House([1, 2])
    house.syncer.syncs[1] = [Sync(AWAY)]
    done = Round(house)
    assert done.synced == [1, 2]
    assert done.error
    assert done.error.message == (
        "Catalog 1 could not be synced: edX is away. What was stored before is intact."
    )
    assert done.line["error"] == done.error.message
    assert len(done.line["catalogs"]) == 2


def test_catalog_is_reported_as_unfinished_when_its_sync_does_not_end_in_time() -> None:
    house, endless = House([1, 2]), Sync(may_end=False)
    house.syncer.syncs[1] = [endless]
    done = Round(house, 1)
    assert done.synced == [1, 2]
    assert done.error
    assert "Catalog 1 could not be synced: the sync did not end within 1 s" in done.error.message
    endless.may_end.set()


def test_known_catalogs_are_synced_and_the_round_fails_when_the_list_cannot_be_fetched() -> None:
    house = House([1, 2])
    house.catalogs.failure = AWAY
    done = Round(house)
    assert done.synced == [1, 2]
    assert done.error is AWAY
    assert [entry["catalog"] for entry in done.line["catalogs"]] == [1, 2]
    assert done.line["error"] == "edX is away"


def test_round_fails_with_the_failure_of_the_list_when_none_is_known() -> None:
    house = House()
    house.catalogs.list, house.catalogs.failure = None, AWAY
    done = Round(house)
    assert (done.error, done.synced, done.line["catalogs"]) == (AWAY, [], [])


def test_round_fails_with_one_sentence_when_there_is_no_catalog() -> None:
    done = Round(House([]))
    assert done.error
    assert done.error.message == (
        "There is no catalog to sync: EDX_CATALOG_IDS is empty and edX lists none for this client id; "
        "ask edX for access to one"
    )


def test_line_is_logged_when_storage_cannot_be_reached() -> None:
    house = House([1])
    house.store.failure = StorageError("Table Storage failed (503)")
    done = Round(house)
    assert done.synced == [1]
    assert done.line["catalogs"] == [
        {"catalog": 1, "error": "Table Storage failed (503)", "left_list": False}
    ]


def test_line_has_letters_of_any_script_unescaped() -> None:
    house = House([1])
    house.store.failure = StorageError("Table Storage failed: 帐户已禁用")
    assert '"error": "Table Storage failed: 帐户已禁用"' in Round(house).text


@pytest.mark.parametrize("ids", [[1], [1, 2], [1, 2, 3]])
def test_catalog_is_not_first_in_every_round_when_its_attempts_fail(ids: list[int]) -> None:
    house = House(ids)
    house.store.attempts = {
        catalog_id: Attempts(attempted_at=NOW - timedelta(minutes=catalog_id)) for catalog_id in ids
    }
    assert Round(house).synced == sorted(ids, reverse=True)
