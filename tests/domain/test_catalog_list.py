"""When a new list of catalogs is rejected."""

from datetime import UTC, datetime

import pytest

from shared.domain.catalog_id import parse_catalog_id
from shared.domain.catalog_list import CatalogList, listed_now
from shared.errors import EdxProtocolError

NOW = datetime(2026, 11, 1, tzinfo=UTC)


def known(*ids: int, left: tuple[int, ...] = ()) -> CatalogList:
    return CatalogList(ids, NOW, left)


@pytest.mark.parametrize(
    ("before", "listed"),
    [((1, 2), ()), ((1,), ()), ((1, 2), (3,)), ((1, 2, 3), (1,)), ((1, 2, 3, 4), (1, 2))],
)
def test_list_is_rejected_when_it_loses_too_many_catalogs(
    before: tuple[int, ...], listed: tuple[int, ...]
) -> None:
    with pytest.raises(EdxProtocolError, match="the known list stays"):
        listed_now(known(*before), listed, NOW)


def test_rejection_has_the_numbers_and_the_ids_of_the_catalogs_that_are_left_out() -> None:
    with pytest.raises(EdxProtocolError) as rejected:
        listed_now(known(1, 8, 16), (8,), NOW)
    assert rejected.value.message == (
        "edX lists 1 catalogs and left out 2 of the 3 that it listed before (1, 16); "
        "the known list stays in use"
    )


@pytest.mark.parametrize(("before", "listed"), [((1, 2), (2,)), ((1, 2, 3, 4, 5), (3, 4, 5)), ((1,), (1,))])
def test_list_is_taken_when_it_loses_one_of_several_catalogs_or_less_than_half(
    before: tuple[int, ...], listed: tuple[int, ...]
) -> None:
    assert listed_now(known(*before), listed, NOW).catalog_ids == listed


def test_catalogs_that_left_are_remembered_until_they_return() -> None:
    left = listed_now(known(1, 2, 3), (3, 2), NOW)
    assert left == known(2, 3, left=(1,))
    assert listed_now(left, (2, 4), NOW) == known(2, 4, left=(1, 3))
    assert listed_now(left, (1, 2, 3), NOW) == known(1, 2, 3)


def test_first_list_may_be_empty() -> None:
    assert listed_now(None, (), NOW) == known()


@pytest.mark.parametrize(
    ("text", "catalog_id"),
    [("1", 1), ("2147483647", 2**31 - 1), ("2147483648", 2**31), ("9" * 11, 2**31),
     ("9" * 5000, 2**31),
     ("0", None), ("01", None), ("+1", None), ("1.0", None), ("", None), (" 1", None), ("\u0661", None)],
)  # fmt: skip
def test_catalog_id_is_read_when_it_has_the_documented_format(text: str, catalog_id: int | None) -> None:
    assert parse_catalog_id(text) == catalog_id
