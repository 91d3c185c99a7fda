"""The published state: a body stays the same when it is packed, read and rendered again."""

import gzip
import json
import zlib
from datetime import UTC, datetime, timedelta
from hashlib import shake_128
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.course_run import MappedRun, course_run_id, stored_json
from shared.domain.published import (
    HOLDS_FOR_EVER,
    WITHDRAWN,
    ServedRun,
    checksum,
    courserun_key_of,
    digest,
    line_of,
    merge,
    pack_digests,
    render,
    render_again,
    served,
    served_runs,
    unpack,
    unpack_digests,
)
from tests.mapped_runs import make_mapped, make_served, mapped_runs

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
MOMENTS = st.datetimes(timezones=st.just(UTC))


def shown(*runs: ServedRun, at: datetime = NOW) -> dict[str, str]:
    """Return the availability of each run that the body shows."""
    return {run["courserunKey"]: run["availability"] for run in json.loads(unpack(render(runs, at).packed))}


# Rendering


def test_body_is_one_sorted_array_with_a_run_on_each_line() -> None:
    body = render([make_served("b"), make_served("B"), make_served("a", price="1.00")], NOW)
    assert unpack(body.packed).decode() == (
        '[{"id":"453bd8ce-5d48-5f34-9ad1-442a67223746","courserunKey":"B","availability":"Upcoming"},\n'
        '{"id":"da4058d5-42c9-590b-a2cd-6b466422f770","courserunKey":"a","price":"1.00",'
        '"availability":"Upcoming"},\n'
        '{"id":"b037c108-f9dc-5703-9a17-0dc39c70d2d2","courserunKey":"b","availability":"Upcoming"}]'
    )
    assert body.runs == 3


def test_body_is_an_empty_array_that_stays_valid_when_there_are_no_runs() -> None:
    body = render([], NOW)
    assert unpack(body.packed) == b"[]"
    assert (body.runs, body.holds_until) == (0, "9999-12-31T23:59:59Z")
    assert render_again(body.packed, NOW) == body
    assert list(served_runs(b"[]")) == []


def test_body_is_gzip_that_any_client_can_read() -> None:
    assert gzip.decompress(render([], NOW).packed) == b"[]"


@pytest.mark.parametrize("runs", [256, 513])  # a chunk of 256; two of them and one line
def test_body_is_complete_when_it_is_at_least_as_long_as_a_chunk(runs: int) -> None:
    keys = [f"NUSx/{number:03}/1" for number in range(runs)]
    body_json = unpack(render(map(make_served, keys), NOW).packed)
    assert [run["courserunKey"] for run in json.loads(body_json)] == keys
    assert [courserun_key_of(line) for line in body_json[1:-1].split(b",\n")] == keys
    assert body_json.count(b"\n") == runs - 1


def test_body_is_the_same_after_reading_when_it_is_larger_than_what_is_unpacked_at_once() -> None:
    # Half a megabyte. Each address comes again after 30,000 bytes, so that gzip needs its whole window.
    address = "https://www.edx.org/" + shake_128().hexdigest(15_000)
    body = render([make_served(key, marketing_url=address) for key in "abcdefghijklmnopqr"], NOW)
    assert len(body.packed) < 40_000
    assert json.loads(unpack(body.packed))[17]["marketingUrl"] == address
    assert render_again(body.packed, NOW) == body
    assert merge([body.packed]) == body


def test_bytes_and_tag_are_those_of_earlier_versions() -> None:
    # Otherwise every caller would download an unchanged catalogue again after a deployment.
    body = render((make_served(f"NUSx/{number:03}/1") for number in range(513)), NOW)
    assert body.tag == "89b12a72b981fc4e43f9b3918817663c"
    assert checksum(body.packed) == "33a6fd108635ce8cef539fc6b151075e"
    assert render([], NOW).tag == "7ebb3c7c2a87b1a2f8a7ed729ecb040d"


def test_run_begins_and_ends_at_the_exact_second() -> None:
    run = make_served("a", start_date="2026-03-01T12:00:00Z", end_date="2026-03-01T12:00:02Z")
    assert shown(run, at=NOW - SECOND) == {"a": "Upcoming"}
    assert shown(run, at=NOW) == {"a": "Current"}
    assert shown(run, at=NOW + 1.999 * SECOND) == {"a": "Current"}
    assert shown(run, at=NOW + 2 * SECOND) == {}


def test_later_runs_are_rendered_when_the_first_run_has_ended() -> None:
    ended = make_served("a", end_date="2026-02-01T00:00:00Z")
    begins = make_served("b", start_date="2026-05-01T00:00:00Z")
    assert shown(ended, begins, at=NOW) == {"b": "Upcoming"}
    assert render([ended, begins], NOW).holds_until == "2026-05-01T00:00:00Z"


def test_run_is_not_served_when_edx_does_not_publish_it() -> None:
    mapped = make_mapped("a", is_published=False)
    assert served(mapped, stored_json(mapped.run)) is None


@pytest.mark.parametrize(
    ("dates", "expected"),
    [
        ([], HOLDS_FOR_EVER),
        ([(None, None)], HOLDS_FOR_EVER),
        ([("2026-03-01T12:00:01Z", None)], "2026-03-01T12:00:01Z"),
        ([("2026-03-01T12:00:00Z", None)], HOLDS_FOR_EVER),
        ([("2026-03-01T12:00:00Z", "2026-06-01T00:00:00Z")], "2026-06-01T00:00:00Z"),
        ([("2026-01-01T00:00:00Z", "2026-03-01T12:00:00Z")], HOLDS_FOR_EVER),
        ([("2026-05-01T00:00:00Z", "2026-04-01T00:00:00Z")], "2026-04-01T00:00:00Z"),
        # The start of a run that has ended already changes nothing.
        ([("2026-05-01T00:00:00Z", "2026-02-01T00:00:00Z")], HOLDS_FOR_EVER),
        ([("2026-09-01T00:00:00Z", None), (None, "2026-08-01T00:00:00Z")], "2026-08-01T00:00:00Z"),
    ],
)
def test_body_holds_until_a_run_begins_or_ends(
    dates: list[tuple[str | None, str | None]], expected: str
) -> None:
    runs = [make_served(f"run{at}", start_date=start, end_date=end) for at, (start, end) in enumerate(dates)]
    assert render(runs, NOW).holds_until == expected


@given(st.lists(mapped_runs(), max_size=6, unique_by=lambda mapped: mapped.run.id), MOMENTS)
def test_body_changes_at_holds_until_and_not_before(mapped: list[MappedRun], now: datetime) -> None:
    runs = [run for each in mapped if (run := served(each, stored_json(each.run)))]
    body = render(runs, now)
    if body.holds_until != HOLDS_FOR_EVER:
        until = datetime.fromisoformat(body.holds_until)
        assert render(runs, max(now, until - SECOND)).tag == body.tag
        assert render(runs, until).tag != body.tag


@given(
    st.lists(mapped_runs(), max_size=3, unique_by=lambda mapped: mapped.run.id),
    st.lists(mapped_runs(), max_size=3, unique_by=lambda mapped: mapped.run.id),
    MOMENTS,
    MOMENTS,
)
def test_tags_are_equal_exactly_when_the_json_is(
    some: list[MappedRun], others: list[MappedRun], now: datetime, later: datetime
) -> None:
    runs = [run for each in some if (run := served(each, stored_json(each.run)))]
    other_runs = [run for each in others if (run := served(each, stored_json(each.run)))]
    for one, other in [
        (render(runs, now), render(other_runs, now)),
        (render(runs, now), render(runs, later)),
        (render(runs, now), render(reversed(runs), now)),
    ]:
        assert (one.tag == other.tag) == (unpack(one.packed) == unpack(other.packed))


# Reading back


@given(
    st.lists(mapped_runs(), max_size=6, unique_by=lambda mapped: mapped.run.id),
    MOMENTS,
    st.timedeltas(timedelta(0)),
)
def test_body_rendered_again_later_equals_a_body_rendered_from_the_runs(
    mapped: list[MappedRun], now: datetime, passed: timedelta
) -> None:
    later = now + min(passed, datetime.max.replace(tzinfo=UTC) - now)
    runs = {each.run.id: run for each in mapped if (run := served(each, stored_json(each.run)))}
    body_json = unpack(render(runs.values(), now).packed)
    read = dict(served_runs(body_json))
    assert read.items() <= runs.items()
    assert render(read.values(), later) == render(runs.values(), later)
    assert render_again(render(runs.values(), now).packed, later) == render(runs.values(), later)
    assert json.loads(unpack(render(read.values(), now).packed)) == json.loads(body_json)


@pytest.mark.parametrize("key", ["a", "b", "c"])
def test_line_of_a_run_has_the_same_bytes_as_its_object(key: str) -> None:
    body_json = unpack(render([make_served(each, marketing_url="http://x/],") for each in "abc"], NOW).packed)
    line = line_of(body_json, course_run_id(key))
    assert line
    assert line == body_json[1:-1].split(b",\n")["abc".index(key)]
    assert json.loads(line)["courserunKey"] == key


def test_line_of_a_run_is_none_when_its_id_is_only_in_a_text_of_another_run() -> None:
    wanted = course_run_id("wanted")
    other = make_served("other", uuid=wanted, marketing_url=f'http://x/{{"id":"{wanted}"')
    assert line_of(unpack(render([other], NOW).packed), wanted) is None
    assert line_of(b"[]", wanted) is None


def test_availability_in_a_text_is_kept_when_a_body_is_read_back() -> None:
    run = make_served("a", marketing_url='http://x/,"availability":"Current"')
    assert list(served_runs(unpack(render([run], NOW).packed))) == [(course_run_id("a"), run)]


def test_equal_dates_share_one_string_when_a_body_is_read_back() -> None:
    runs = [make_served(key, start_date="2026-05-01T00:00:00Z", end_date=None) for key in "ab"]
    first, second = (run for _, run in served_runs(unpack(render(runs, NOW).packed)))
    assert first.start_date is second.start_date


def test_reading_fails_when_the_body_is_truncated() -> None:
    packed = render(map(make_served, "abc"), NOW).packed
    with pytest.raises(zlib.error):
        render_again(packed[:-20], NOW)


# Merging


def test_merged_body_has_each_run_once_from_the_first_body_when_several_have_it() -> None:
    first = render([make_served("b", price="3.00"), make_served("d")], NOW)
    second = render([make_served(key, price="2.00") for key in "abc"], NOW)
    merged = merge([first.packed, second.packed])
    shown = json.loads(unpack(merged.packed))
    assert [(run["courserunKey"], run.get("price")) for run in shown] == [
        ("a", "2.00"), ("b", "3.00"), ("c", "2.00"), ("d", None),
    ]  # fmt: skip
    assert (merged.runs, merged.holds_until) == (4, HOLDS_FOR_EVER)
    assert merge([first.packed, render([], NOW).packed])[:2] == first[:2]
    assert merge([]).packed == render([], NOW).packed


@given(
    st.lists(mapped_runs(), max_size=6, unique_by=lambda mapped: mapped.run.id),
    st.sets(st.integers(0, 5)),
    MOMENTS,
)
def test_merge_of_two_halves_equals_the_body(mapped: list[MappedRun], half: set[int], now: datetime) -> None:
    runs = [run for each in mapped if (run := served(each, stored_json(each.run)))]
    one = render((run for at, run in enumerate(runs) if at in half), now)
    other = render((run for at, run in enumerate(runs) if at not in half), now)
    assert merge([one.packed, other.packed])[:2] == render(runs, now)[:2]


def test_key_of_a_line_is_read_for_any_characters() -> None:
    for key in ("a", 'quote"backslash\\', "École", "x,y]}", "\U0001f600"):
        line = line_of(unpack(render([make_served(key)], NOW).packed), course_run_id(key))
        assert line
        assert courserun_key_of(line) == key


def test_key_of_a_line_is_read_when_its_fields_are_in_another_order() -> None:
    assert courserun_key_of(b'{"courserunKey":"a","id":"b037c108-f9dc-5703-9a17-0dc39c70d2d2"}') == "a"


# Digests


@given(st.dictionaries(st.uuids().map(str), st.binary(min_size=16, max_size=16)))
def test_digests_are_the_same_after_packing(digests: dict[str, bytes]) -> None:
    packed = pack_digests(digests)
    assert len(packed) == 32 * len(digests)
    assert unpack_digests(packed) == digests
    assert packed[:16] == (UUID(min(digests)).bytes if digests else b"")


def test_digest_differs_when_any_stored_value_differs() -> None:
    plain, dearer, unpublished = make_mapped(), make_mapped(price="1.00"), make_mapped(is_published=False)
    digests = {digest(each, stored_json(each.run)) for each in (plain, dearer, unpublished)}
    assert len(digests) == 3
    assert {len(each) for each in digests} == {16}
    assert WITHDRAWN not in digests
    assert digest(plain, stored_json(plain.run)) in digests
