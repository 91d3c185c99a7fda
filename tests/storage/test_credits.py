"""Approved credits on Azurite."""

from collections.abc import Iterator

import pytest
from azure.data.tables import TableClient, UpdateMode

from local.azurite import Azurite
from shared.domain.credits import Approval
from shared.settings import StorageSettings
from shared.storage.credits import Credits
from shared.storage.failures import EntityRefused
from shared.storage.tables import Tables
from tests.mapped_runs import KEY, OLD_STYLE_KEY, make_mapped
from tests.storage.syncs import NOW
from tests.table_proxy import TableProxy, lose_answer, refuse_in_batch

COURSE_KEY = "NUSx+A1x"
INCOMPLETE = f"The approved credit of {KEY} is ignored: it does not say who approved it, when and why"


@pytest.fixture
def credits_client(azurite: Azurite, storage: StorageSettings) -> Iterator[TableClient]:
    with TableClient.from_connection_string(azurite.connection_string, f"{storage.prefix}Credits") as client:
        yield client


@pytest.fixture
def approved(tables: Tables) -> Credits:
    return tables.credits


def make_approval(key: str = KEY, credit: int = 2, note: str = "Décidé") -> Approval:
    return Approval(key, credit, note, "tan@nus.edu.sg", NOW)


def test_approval_is_read_as_it_was_set(approved: Credits) -> None:
    for key in (KEY, OLD_STYLE_KEY, r"NUSx/a\b#c?d%2F'e é/1", "x" * 255):
        approved.set([make_approval(key)])
        assert approved.all().of(make_mapped(key)) == make_approval(key)
    assert approved.all().malformed == ()


def test_entity_has_the_documented_keys(approved: Credits, credits_client: TableClient) -> None:
    approved.set([make_approval(OLD_STYLE_KEY)])
    assert dict(credits_client.get_entity("credits", "cd3699dd-ff6b-5890-a54b-d353c77cf569")) == {
        "PartitionKey": "credits",
        "RowKey": "cd3699dd-ff6b-5890-a54b-d353c77cf569",
        "key": "DelftX/CTB3300WCx/2T2014",
        "credit": 2,
        "note": "Décidé",
        "by": "tan@nus.edu.sg",
        "at": "2026-03-01T12:00:00+00:00",
    }


def test_later_approval_replaces_the_earlier_one_of_the_same_key(approved: Credits) -> None:
    approved.set([make_approval(credit=1), make_approval(credit=2), make_approval(COURSE_KEY)])
    approved.set([make_approval(credit=3, note="")])
    assert approved.all().of(make_mapped()) == make_approval(credit=3, note="")


def test_approval_does_not_apply_after_its_removal(approved: Credits) -> None:
    assert not approved.remove(KEY)
    approved.set([make_approval(), make_approval(OLD_STYLE_KEY)])
    assert approved.remove(KEY)
    assert not approved.remove(KEY)
    assert approved.all().of(make_mapped()) is None
    assert approved.all().of(make_mapped(OLD_STYLE_KEY)) == make_approval(OLD_STYLE_KEY)


def test_approval_is_removed_when_only_the_answer_is_lost(proxied_tables: Tables, proxy: TableProxy) -> None:
    proxied_tables.credits.set([make_approval()])
    rule = proxy.on(lose_answer, kind="remove runs", times=1)
    assert proxied_tables.credits.remove(KEY)
    assert rule.fired
    assert proxied_tables.credits.all().of(make_mapped()) is None


def test_removal_fails_when_storage_refuses_it_for_another_reason(
    proxied_tables: Tables, proxy: TableProxy
) -> None:
    proxied_tables.credits.set([make_approval()])
    proxy.on(refuse_in_batch(0, "InvalidInput"), kind="remove runs")
    with pytest.raises(EntityRefused, match="InvalidInput"):
        proxied_tables.credits.remove(KEY)


@pytest.mark.parametrize(
    ("odd", "sentence"),
    [
        ({"credit": "2"}, f"The approved credit of {KEY} is ignored: it is not a whole number of 0 or more"),
        ({"credit": -1}, f"The approved credit of {KEY} is ignored: it is not a whole number of 0 or more"),
        ({"credit": 1.5}, f"The approved credit of {KEY} is ignored: it is not a whole number of 0 or more"),
        ({"credit": True}, f"The approved credit of {KEY} is ignored: it is not a whole number of 0 or more"),
        ({"note": 7}, INCOMPLETE),
        ({"by": 7}, INCOMPLETE),
        ({"at": "now"}, INCOMPLETE),
        (
            {"key": "another"},
            "The approved credit of another is ignored: row 'ROW' belongs to another key",
        ),
        (
            {"key": 7},
            "The approved credit in row 'ROW' is ignored: it has no run or course key",
        ),
        (
            {"key": ""},
            "The approved credit in row 'ROW' is ignored: it has no run or course key",
        ),
        (
            {"key": "x" * 256},
            "The approved credit in row 'ROW' is ignored: it has no run or course key",
        ),
    ],
)
def test_entry_is_ignored_and_named_when_it_is_malformed(
    approved: Credits, credits_client: TableClient, odd: dict[str, object], sentence: str
) -> None:
    approved.set([make_approval(), make_approval(OLD_STYLE_KEY, 0)])
    (entity,) = (each for each in credits_client.list_entities() if each["key"] == KEY)
    credits_client.update_entity({**entity, **odd}, UpdateMode.MERGE)
    read = approved.all()
    assert read.malformed == (sentence.replace("ROW", entity["RowKey"]),)
    assert read.of(make_mapped()) is None
    assert read.of(make_mapped(OLD_STYLE_KEY)) == make_approval(OLD_STYLE_KEY, 0)


def test_approvals_are_read_with_one_query_of_1000_entities_per_page(
    proxied_tables: Tables, proxy: TableProxy
) -> None:
    approvals = [make_approval(f"NUSx/{number}/1", number) for number in range(1500)]
    proxied_tables.credits.set(approvals)
    proxy.requests.clear()
    read = proxied_tables.credits.all()
    assert [request.is_query for request in proxy.requests] == [True, True]
    assert all(read.of(make_mapped(approval.key)) == approval for approval in approvals)
