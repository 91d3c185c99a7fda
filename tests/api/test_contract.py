"""Parsing of requests by the HTTP contract: parameters, freshness, conditions, encodings."""

import re
from contextlib import suppress
from datetime import UTC, datetime
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shared.api.contract import (
    accepts_gzip,
    answer_headers,
    matches,
    next_link,
    parse_changes_question,
    parse_freshness,
    parse_question,
)
from shared.domain.query import ChangesQuestion, Freshness, Question
from shared.errors import BadRequest

URL = "https://gateway.example/ExternalLinks/edXCourseruns"


def ask(query: str, params: dict[str, str] | None = None, cache_control: str | None = None) -> Question:
    return parse_question(f"{URL}?{query}", params or {}, cache_control)


# Parameters


@pytest.mark.parametrize("query", ["", "catalogId=", "courserunKey=", "catalogId&courserunKey", "x=1&x=2"])
def test_question_is_about_all_runs_when_parameters_are_absent_or_empty(query: str) -> None:
    assert ask(query) == Question(None, None, Freshness())


@pytest.mark.parametrize(("text", "number"), [("1", 1), ("31", 31), ("9" * 100, 2**31), ("9" * 5000, 2**31)])
def test_catalog_id_is_accepted_when_it_is_a_whole_number_above_0(text: str, number: int) -> None:
    assert ask(f"catalogId={text}").catalog_id == number


@pytest.mark.parametrize(
    "text",
    ["0", "01", "-1", "+1", "%2B1", "1.0", "1e3", "1_000", "0x1", "abc", " 1", "1 ", "1%0A", "1%00", "null",
     "%D9%A1", "%EF%BC%91", "1,2", "1%2031"],
)  # fmt: skip
def test_catalog_id_is_refused_when_it_is_not_a_whole_number_above_0(text: str) -> None:
    with pytest.raises(BadRequest) as refusal:
        ask(f"catalogId={text}")
    assert refusal.value.message == "catalogId must be a whole number above 0"


@pytest.mark.parametrize(
    ("query", "key"),
    [
        ("course-v1:MITx+6.00.1x+2T2026", "course-v1:MITx 6.00.1x 2T2026"),
        ("course-v1%3AMITx%2B6.00.1x%2B2T2026", "course-v1:MITx+6.00.1x+2T2026"),
        ("course-v1:MITx%206.00.1x%202T2026", "course-v1:MITx 6.00.1x 2T2026"),
        ("DelftX/CTB3300WCx/2T2014", "DelftX/CTB3300WCx/2T2014"),
        ("DelftX%2FCTB3300WCx%2F2T2014", "DelftX/CTB3300WCx/2T2014"),
        ("%C3%89cole+1", "École 1"),
        ("a=b;c", "a=b;c"),
        ("a%26b%23c", "a&b#c"),
        ("%2525", "%25"),
        ("%FF", "\ufffd"),
    ],
)
def test_courserun_key_is_not_changed(query: str, key: str) -> None:
    assert ask(f"courserunKey={query}").courserun_key == key


def test_courserun_key_is_refused_when_it_is_longer_than_255_characters() -> None:
    assert ask(f"courserunKey={quote('é' * 255)}").courserun_key == "é" * 255
    with pytest.raises(BadRequest, match="255"):
        ask(f"courserunKey={'x' * 256}")


@pytest.mark.parametrize("code", [*range(0x20), *range(0x7F, 0xA0)])
def test_courserun_key_is_refused_when_it_contains_a_control_character(code: int) -> None:
    with pytest.raises(BadRequest, match="control"):
        ask(f"courserunKey=a{quote(chr(code))}b")


@pytest.mark.parametrize(
    "query",
    ["{0}=1&{0}=1", "{0}=1&{0}=2", "{0}=1&{0}=", "{0}=&{0}=", "{0}=1&x=2&{0}=1", "{0}=1&%63{1}=1"],
)
@pytest.mark.parametrize("name", ["catalogId", "courserunKey"])
def test_parameter_is_refused_when_it_is_given_twice(name: str, query: str) -> None:
    with pytest.raises(BadRequest) as refusal:
        ask(query.format(name, name[1:]))
    assert refusal.value.message == f"{name} is given more than once; give it once"


@pytest.mark.parametrize("query", ["catalogid=1", "CATALOGID=x", "catalogId=1&catalogid=1", "catalogid="])
def test_parameter_is_refused_with_the_right_name_when_its_name_differs_only_in_case(query: str) -> None:
    with pytest.raises(BadRequest, match=r"^The parameter (catalogid|CATALOGID) is unknown; use catalogId$"):
        ask(query)


def test_parameter_of_the_host_is_refused_with_the_right_name_when_its_name_differs_only_in_case() -> None:
    with pytest.raises(BadRequest, match=r"use courserunKey$"):
        ask("", {"courserunkey": "a"})


def test_unknown_parameter_is_ignored() -> None:
    assert ask("catalog_id=0&catalog=x&since=yesterday") == Question()


def test_parameters_of_the_host_are_used_when_the_url_has_no_query() -> None:
    assert ask("", {"catalogId": "7", "courserunKey": "a b"}) == Question(7, "a b")


def test_parameters_of_the_host_are_ignored_when_the_url_has_them() -> None:
    assert ask("catalogId=7&courserunKey=a%2Bb", {"catalogId": "8", "courserunKey": "a b"}) == Question(
        7, "a+b"
    )


def test_question_is_refused_when_the_query_cannot_be_read() -> None:
    assert ask("&".join(["x=1"] * 999 + ["catalogId=7"])).catalog_id == 7
    with pytest.raises(BadRequest, match="query"):
        ask("&".join(["x=1"] * 1001))
    with pytest.raises(BadRequest, match="query"):
        parse_question("http://[half/?catalogId=1", {}, None)


@given(
    st.text() | st.builds("catalogId={}&courserunKey={}".format, st.text(), st.text()),
    st.dictionaries(st.sampled_from(["catalogId", "courserunKey"]), st.text()),
    st.none() | st.text(),
)
@example("catalogId=" + "1" * 4301, {}, None)
@example("", {}, "max-age=" + "9" * 5000)
def test_only_bad_request_is_raised_when_a_request_contains_any_text(
    query: str, params: dict[str, str], cache_control: str | None
) -> None:
    for url in (f"{URL}?{query}", query):
        try:
            question = parse_question(url, params, cache_control)
        except BadRequest:
            continue
        assert question.catalog_id is None or question.catalog_id > 0
        assert question.courserun_key is None or not re.search("[\x00-\x1f\x7f-\x9f]", question.courserun_key)


# Freshness


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, Freshness(None, only_if_cached=False, stale_if_error_s=None)),
        ("", Freshness()),
        ("max-age=60", Freshness(60)),
        ("max-age=0", Freshness(0)),
        ("MAX-AGE=60", Freshness(60)),
        ('max-age="60"', Freshness(60)),
        (" max-age=60 , stale-if-error=5 ", Freshness(60, stale_if_error_s=5)),
        ("max-age=007", Freshness(7)),
        ("max-age=99999999999999999999999999", Freshness(2**31)),
        (f"max-age=0000000000000{2**31 + 1}", Freshness(2**31)),
        ("no-cache", Freshness(0, stale_if_error_s=0)),
        ("No-Cache", Freshness(0, stale_if_error_s=0)),
        ("no-cache, max-age=60", Freshness(0, stale_if_error_s=0)),
        ("max-age=60,no-cache", Freshness(0, stale_if_error_s=0)),
        ("no-cache, stale-if-error=60", Freshness(0, stale_if_error_s=60)),
        ("only-if-cached", Freshness(None, only_if_cached=True)),
        ("only-if-cached, no-cache", Freshness(0, only_if_cached=True, stale_if_error_s=0)),
        ("stale-if-error=86400", Freshness(stale_if_error_s=86400)),
        ("max-age=0, stale-if-error=0", Freshness(0, stale_if_error_s=0)),
    ],
)
def test_cache_control_is_parsed(header: str | None, expected: Freshness) -> None:
    assert parse_freshness(header) == expected


@pytest.mark.parametrize(
    "header",
    ["max-age", "max-age=", "max-age=abc", "max-age=-1", "max-age=+1", "max-age=1.5", "max-age=1 0",
     "max-age =60", "max-age= 60", "max-age=٦", 'max-age="6', "max-age=60s", "x-max-age=60", "max-age60",
     "no-cache=x", 'no-cache="set-cookie"', "only-if-cached=1", "stale-if-error", "stale-if-error=soon",
     "no-store", "max-stale=60", "min-fresh=60", "s-maxage=60", 'x="max-age=60, no-cache"', "=60", ",,;,",
     "no-cache; max-age=60"],
)  # fmt: skip
def test_directive_is_ignored_when_it_is_malformed_or_not_ours(header: str) -> None:
    assert parse_freshness(header) == Freshness()
    assert parse_freshness(f"{header}, max-age=7") == Freshness(7)
    assert parse_freshness(f"max-age=7,{header}") == Freshness(7)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("max-age=1, max-age=2", Freshness(1)),
        ("max-age=0, max-age=2", Freshness(0)),
        ("stale-if-error=1, stale-if-error=2", Freshness(stale_if_error_s=1)),
        ("max-age=x, max-age=2, max-age=3", Freshness(2)),
    ],
)
def test_first_directive_is_used_when_it_is_repeated(header: str, expected: Freshness) -> None:
    assert parse_freshness(header) == expected


# Conditions, encodings and headers


@pytest.mark.parametrize(
    "header",
    [
        'W/"abc"',
        '"abc"',
        '"x", "abc"',
        'W/"x",W/"abc"',
        '"x" , W/"abc" ',
        "*",
        '"abc", "abc"',
        '"x,y", "abc"',
    ],
)
def test_tag_matches_when_the_condition_names_it(header: str) -> None:
    assert matches(header, "abc")


@pytest.mark.parametrize(
    "header",
    [None, "", '""', '"ab"', '"abcd"', '"ABC"', 'W/"x"', '"x", "y"', '"*"', 'W/"*"', '"x abc"', "W/"],
)
def test_tag_does_not_match_when_the_condition_names_other_tags(header: str | None) -> None:
    assert not matches(header, "abc")


@pytest.mark.parametrize(
    "header",
    ["gzip", "GZIP", "gzip, deflate, br", "br;q=1.0, gzip;q=0.5", "gzip;q=0.001", "*", "*;q=0.1",
     "identity, *", "gzip;q=1, *;q=0", "deflate , gzip"],
)  # fmt: skip
def test_gzip_is_accepted_when_accept_encoding_allows_it(header: str) -> None:
    assert accepts_gzip(header)


@pytest.mark.parametrize(
    "header",
    [None, "", "identity", "br", "gzip;q=0", "gzip;q=0.0", "gzip;q=0, *", "*;q=0", "*, gzip;q=0", "notgzip",
     "gzipped"],
)  # fmt: skip
def test_gzip_is_not_accepted_when_accept_encoding_does_not_allow_it(header: str | None) -> None:
    assert not accepts_gzip(header)


@given(st.text())
def test_no_error_is_raised_when_a_header_contains_any_text(header: str) -> None:
    accepts_gzip(header)
    matches(header, "abc")
    parse_freshness(header)


def test_headers_of_an_answer_are_those_of_the_contract() -> None:
    assert answer_headers("abc", 61, "hit; ttl=839") == {
        "ETag": 'W/"abc"',
        "Cache-Control": "private, no-cache",
        "Vary": "Accept-Encoding",
        "Age": "61",
        "Cache-Status": "luminus-edx-connector; hit; ttl=839",
    }


# The history


def ask_changes(query: str, params: dict[str, str] | None = None) -> ChangesQuestion:
    return parse_changes_question(f"{URL}/changes?{query}", params or {})


@pytest.mark.parametrize(
    "query", ["", "since=&catalogId=&courserunKey=&limit=&cursor=", "x=1", "since&cursor"]
)
def test_whole_history_is_requested_when_parameters_are_absent_or_empty(query: str) -> None:
    assert ask_changes(query) == ChangesQuestion(None, None, None, 100, None)


def test_every_parameter_of_the_history_is_parsed() -> None:
    query = "since=2026-11-24T12:00:00Z&catalogId=7&courserunKey=a%2Bb&limit=1000&cursor=x"
    expected = ChangesQuestion(datetime(2026, 11, 24, 12, tzinfo=UTC), 7, "a+b", 1000, "x")
    assert ask_changes(query) == expected
    assert ask_changes("", {"limit": "5"}).limit == 5
    assert ask_changes("limit=1").limit == 1


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-24", datetime(2026, 11, 24, tzinfo=UTC)),
        ("2026-11-24T12:00:00Z", datetime(2026, 11, 24, 12, tzinfo=UTC)),
        ("2026-11-24t12:00:00z", datetime(2026, 11, 24, 12, tzinfo=UTC)),
        ("2026-11-24T12:00:00.5Z", datetime(2026, 11, 24, 12, 0, 0, 500_000, tzinfo=UTC)),
        ("2026-11-24T20:00:00%2B08:00", datetime(2026, 11, 24, 12, tzinfo=UTC)),
        ("2026-11-24T20:00:00+08:00", datetime(2026, 11, 24, 12, tzinfo=UTC)),
        ("2026-11-24T10:30:00-01:30", datetime(2026, 11, 24, 12, tzinfo=UTC)),
        ("0001-01-01", datetime(1, 1, 1, tzinfo=UTC)),
    ],
)
def test_since_is_a_time_or_a_date_in_utc(text: str, moment: datetime) -> None:
    assert ask_changes(f"since={text}").since == moment


@pytest.mark.parametrize(
    "text",
    ["yesterday", "2026", "2026-11", "20261124", "2026-11-24T12:00:00", "2026-11-24T12:00Z", "2026-02-30",
     "2026-11-24T24:00:01Z", "2026-11-24T12:00:60Z", "2026-11-24%2012:00:00Z", "2026-11-24T12:00:00+0800",
     "0001-01-01T00:00:00%2B14:00", "0000-01-01", "2026-W48-2", "1700000000", "%D9%A22026-11-24", "2d"],
)  # fmt: skip
def test_since_is_refused_when_it_is_not_a_time_or_a_date(text: str) -> None:
    with pytest.raises(BadRequest, match=r"^since must be a time such as 2026-11-24T12:00:00Z, or a date"):
        ask_changes(f"since={text}")


@pytest.mark.parametrize("text", ["0", "1001", "-1", "01", "1.0", "1e2", "x", "9" * 5000, "%D9%A1", " 1"])
def test_limit_is_refused_when_it_is_not_a_whole_number_from_1_to_1000(text: str) -> None:
    with pytest.raises(BadRequest, match=r"^limit must be a whole number from 1 to 1000$"):
        ask_changes(f"limit={text}")


@pytest.mark.parametrize("name", ["since", "catalogId", "courserunKey", "limit", "cursor"])
def test_parameter_of_the_history_is_refused_when_it_is_given_twice_or_in_another_case(name: str) -> None:
    with pytest.raises(BadRequest, match=f"^{name} is given more than once; give it once$"):
        ask_changes(f"{name}=1&{name}=1")
    with pytest.raises(BadRequest, match=f"use {name}$"):
        ask_changes(f"{name.upper()}=1")


def test_link_is_relative_and_has_only_our_parameters() -> None:
    asked = ask_changes("code=function-key&since=2026-11-24&courserunKey=course-v1:A%2BB+C&limit=2&x=1")
    assert next_link(asked, "bmV4dA") == (
        "<?since=2026-11-24T00%3A00%3A00Z&courserunKey=course-v1%3AA%2BB%20C&limit=2&cursor=bmV4dA>; "
        'rel="next"'
    )
    assert next_link(ChangesQuestion(catalog_id=7), "x") == '<?catalogId=7&limit=100&cursor=x>; rel="next"'


@given(st.text(), st.sampled_from(["since", "limit", "cursor", "catalogId", "courserunKey"]))
def test_only_bad_request_is_raised_when_a_history_request_contains_any_text(text: str, name: str) -> None:
    for query in (text, f"{name}={quote(text)}"):
        with suppress(BadRequest):
            assert 1 <= ask_changes(query).limit <= 1000
