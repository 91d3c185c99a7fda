"""The stored state of our edX account, on Azurite."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from azure.data.tables import TableClient, UpdateMode

from local.azurite import Azurite
from shared.domain.attempts import Attempts
from shared.domain.catalog_list import CatalogList
from shared.errors import Failure, StorageError
from shared.settings import StorageSettings
from shared.storage.account import Account
from shared.storage.table import Table
from shared.storage.tables import Tables, open_tables
from tests.clock import Clock
from tests.storage.syncs import NOW
from tests.table_proxy import TableProxy, answer, refuse_in_batch

HOUR = timedelta(hours=1)
FAILED_TWICE = Attempts(
    attempted_at=NOW,
    succeeded_at=NOW - HOUR,
    failures=2,
    failed_at=NOW,
    failure=Failure("EdxUnavailable", "edX is away", NOW + HOUR),
)


@pytest.fixture
def account(tables: Tables) -> Account:
    return tables.account


@pytest.fixture
def accounts(azurite: Azurite, storage: StorageSettings) -> Iterator[TableClient]:
    with TableClient.from_connection_string(azurite.connection_string, f"{storage.prefix}Accounts") as client:
        yield client


def test_throttling_is_remembered_for_each_client_id(
    account: Account, storage: StorageSettings, clock: Clock
) -> None:
    other = open_tables(storage, "a/b#c", now=clock.now).account
    other.remember_throttled(NOW + HOUR)
    assert other.throttled_until() == NOW + HOUR
    assert account.throttled_until() is None


def test_later_end_is_kept_when_throttling_is_stored_twice(account: Account) -> None:
    for hours in (1, 2, 1):
        account.remember_throttled(NOW + hours * HOUR)
    assert account.throttled_until() == NOW + 2 * HOUR


def test_longest_throttling_is_kept_when_many_processes_store_one_at_once(account: Account) -> None:
    moments = [NOW + minutes * HOUR / 60 for minutes in range(1, 17)]
    with ThreadPoolExecutor(len(moments)) as processes:
        for told in [processes.submit(account.remember_throttled, moment) for moment in moments]:
            told.result()
    assert account.throttled_until() == moments[-1]


def test_throttling_is_not_written_again_when_its_end_is_already_stored(
    proxied_tables: Tables, proxy: TableProxy
) -> None:
    proxied_tables.account.remember_throttled(NOW + HOUR)
    proxy.requests.clear()
    proxied_tables.account.remember_throttled(NOW + HOUR)
    assert [request.kind for request in proxy.requests] == ["read throttling"]


def test_storing_of_throttling_fails_when_every_write_conflicts(
    proxy: TableProxy, proxied_table: Table, clock: Clock
) -> None:
    account = Account(proxied_table, "sandbox-client", now=clock.now)
    account.remember_throttled(NOW)
    proxy.on(refuse_in_batch(0, "UpdateConditionNotSatisfied", 412), kind="write throttling")
    problem = "did not accept the end of edX's rate limit: every write conflicted"
    with pytest.raises(StorageError, match=rf"^Table Storage at 127\.0\.0\.1:\d+ {problem}$"):
        account.remember_throttled(NOW + HOUR)
    assert sum(clock.slept) <= 15


def test_throttling_is_cut_to_24_hours_when_it_is_written(account: Account, accounts: TableClient) -> None:
    account.remember_throttled(NOW + timedelta(days=400))
    (entity,) = accounts.list_entities()
    assert entity["until"] == "2026-03-02T12:00:00+00:00"
    assert account.throttled_until() == NOW + timedelta(hours=24)


def test_throttling_is_ignored_when_its_end_is_more_than_24_hours_ahead(
    account: Account, accounts: TableClient
) -> None:
    account.remember_throttled(NOW)
    (entity,) = accounts.list_entities()
    accounts.update_entity({**entity, "until": "2026-03-02T12:00:01+00:00"}, UpdateMode.MERGE)
    assert account.throttled_until() is None
    account.remember_throttled(NOW + HOUR)
    assert account.throttled_until() == NOW + HOUR


@pytest.mark.parametrize("ids", [(), (7,), (1, 31, 2**31 - 1)])
@pytest.mark.parametrize("left", [(), (2, 4)])
def test_list_of_catalogs_is_remembered(
    account: Account, ids: tuple[int, ...], left: tuple[int, ...]
) -> None:
    account.remember_catalogs(CatalogList(ids, NOW, left), Attempts(succeeded_at=NOW))
    assert account.catalog_list() == CatalogList(ids, NOW, left)
    assert account.attempts() == Attempts(succeeded_at=NOW)


def test_known_list_stays_when_new_attempts_to_list_fail(account: Account) -> None:
    account.remember_attempts(FAILED_TWICE)
    assert account.catalog_list() is None
    assert account.attempts() == FAILED_TWICE
    account.remember_catalogs(CatalogList((1,), NOW), Attempts())
    account.remember_attempts(FAILED_TWICE)
    assert account.catalog_list() == CatalogList((1,), NOW)
    assert account.attempts() == FAILED_TWICE
    account.remember_attempts(Attempts(failures=1))
    assert account.attempts() == Attempts(failures=1)


@pytest.mark.parametrize(
    ("nonsense", "failures"),
    [
        ("soon", "soon"),
        ("2026-03-01T12:00:00", "2"),
        ("0001-01-01T00:00:00+14:00", -1),
        (7, True),
        ("", ""),
    ],
)
def test_account_is_treated_as_new_when_its_rows_are_malformed(
    account: Account, accounts: TableClient, nonsense: object, failures: object
) -> None:
    account.remember_throttled(NOW)
    account.remember_catalogs(CatalogList((1,), NOW), FAILED_TWICE)
    names = ("until", "listedAt", "attemptedAt", "succeededAt", "failedAt", "failuresInARow", "failure")
    for entity in list(accounts.list_entities()):
        odd = dict.fromkeys(names, nonsense) | {"failuresInARow": failures, "failure": ""}
        accounts.update_entity({**entity, **odd}, UpdateMode.MERGE)
    assert account.throttled_until() is None
    assert account.catalog_list() is None
    assert account.attempts() == Attempts()


@pytest.mark.parametrize("ids", ["1;2", "1,all", "0", "-1", "2147483648", "9" * 5000, "\u0661", 7])
def test_list_of_catalogs_is_unknown_when_one_of_its_ids_is_malformed(
    account: Account, accounts: TableClient, ids: object
) -> None:
    account.remember_catalogs(CatalogList((1,), NOW), Attempts())
    (entity,) = accounts.list_entities()
    accounts.update_entity({**entity, "catalogIds": ids}, UpdateMode.MERGE)
    assert account.catalog_list() is None


def test_checking_the_access_leaves_the_account_unchanged(account: Account) -> None:
    account.remember_throttled(NOW)
    account.try_out()
    assert account.throttled_until() == NOW


@pytest.mark.parametrize("refused", ["write .*", "read .*"])
def test_checking_the_access_fails_when_storage_allows_only_reads_or_writes(
    proxied_tables: Tables, proxy: TableProxy, refused: str
) -> None:
    proxy.on(answer(403, "AuthorizationPermissionMismatch"), kind=refused)
    with pytest.raises(StorageError, match=r"refused our credentials \(AuthorizationPermissionMismatch\)"):
        proxied_tables.account.try_out()


def test_account_is_kept_under_the_digest_of_the_client_id(table: Table, clock: Clock) -> None:
    Account(table, "sandbox-client", now=clock.now).remember_throttled(NOW)
    digest = "45906d749329cdf5ce26accda6fe672c785be7961dbec817e480c34f1b396e50"
    assert table.get(digest, "throttled") == {
        "PartitionKey": digest,
        "RowKey": "throttled",
        "until": "2026-03-01T12:00:00+00:00",
    }
