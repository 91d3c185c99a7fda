"""What a request asks, by the HTTP contract: parameters, freshness, conditions, encodings."""

import re
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shared.api.contract import (
    accepts_gzip,
    answer_headers,
    matches,
    parse_freshness,
    parse_question,
)
from shared.domain.query import Freshness, Question
from shared.errors import BadRequest

URL = "https://gateway.example/ExternalLinks/edXCourseruns"


def ask(query: str, params: dict[str, str] | None = None, cache_control: str | None = None) -> Question:
    return parse_question(f"{URL}?{query}", params or {}, cache_control)


# Parameters


@pytest.mark.parametrize("query", ["", "catalogId=", "courserunKey=", "catalogId&courserunKey", "x=1&x=2"])
def test_question_is_about_everything_when_parameters_are_absent_or_empty(query: str) -> None:
    assert ask(query) == Question(None, None, Freshness())


@pytest.mark.parametrize(("text", "number"), [("1", 1), ("31", 31), ("9" * 100, 2**31), ("9" * 5000, 2**31)])
def test_catalog_id_is_read_when_it_is_a_whole_number_above_0(text: str, number: int) -> None:
    assert ask(f"catalogId={text}").catalog_id == number


@pytest.mark.parametrize(
    "text",
    ["0", "01", "-1", "+1", "%2B1", "1.0", "1e3", "1_000", "0x1", "abc", " 1", "1 ", "1%0A", "1%00", "null",
     "%D9%A1", "%EF%BC%91", "1,2", "1%2031"],
)  # fmt: skip
def test_catalog_id_is_refused_when_it_is_anything_else(text: str) -> None:
    with pytest.raises(BadRequest) as refusal:
        ask(f"catalogId={text}")
    assert refusal.value.message == "catalogId must be a whole number above 0"


@pytest.mark.parametrize(
    ("query", "key"),
    [
        ("course-v1:MITx+6.00.1x+2T2026", "course-v1:MITx+6.00.1x+2T2026"),
        ("course-v1%3AMITx%2B6.00.1x%2B2T2026", "course-v1:MITx+6.00.1x+2T2026"),
        ("course-v1:MITx%206.00.1x%202T2026", "course-v1:MITx+6.00.1x+2T2026"),
        ("DelftX/CTB3300WCx/2T2014", "DelftX/CTB3300WCx/2T2014"),
        ("DelftX%2FCTB3300WCx%2F2T2014", "DelftX/CTB3300WCx/2T2014"),
        ("%C3%89cole+1", "École+1"),
        ("a=b;c", "a=b;c"),
        ("a%26b%23c", "a&b#c"),
        ("%2525", "%25"),
        ("%FF", "\ufffd"),
    ],
)
def test_courserun_key_is_read_exactly_but_for_spaces(query: str, key: str) -> None:
    assert ask(f"courserunKey={query}").courserun_key == key


def test_courserun_key_is_refused_when_it_is_longer_than_255_characters() -> None:
    assert ask(f"courserunKey={quote('é' * 255)}").courserun_key == "é" * 255
    with pytest.raises(BadRequest, match="255"):
        ask(f"courserunKey={'x' * 256}")


@pytest.mark.parametrize("code", [*range(0x20), *range(0x7F, 0xA0)])
def test_courserun_key_is_refused_when_it_holds_a_control_character(code: int) -> None:
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
    assert refusal.value.message == f"{name} is given more than once"


def test_names_of_parameters_are_exact() -> None:
    assert ask("catalogid=x&CourserunKey=%00&catalog_id=0") == Question()


def test_parameters_of_the_host_count_when_the_url_has_none() -> None:
    assert ask("", {"catalogId": "7", "courserunKey": "a b"}) == Question(7, "a+b")


def test_question_is_refused_when_the_query_cannot_be_read() -> None:
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
def test_no_request_raises_anything_but_bad_request(
    query: str, params: dict[str, str], cache_control: str | None
) -> None:
    for url in (f"{URL}?{query}", query):
        try:
            question = parse_question(url, params, cache_control)
        except BadRequest:
            continue
        assert question.catalog_id is None or question.catalog_id > 0
        assert question.courserun_key is None or not re.search("[\x00-\x20\x7f-\x9f]", question.courserun_key)


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
        ("no-cache", Freshness(0)),
        ("No-Cache", Freshness(0)),
        ("no-cache, max-age=60", Freshness(0)),
        ("max-age=60,no-cache", Freshness(0)),
        ("only-if-cached", Freshness(None, only_if_cached=True)),
        ("only-if-cached, no-cache", Freshness(0, only_if_cached=True)),
        ("stale-if-error=86400", Freshness(stale_if_error_s=86400)),
        ("max-age=0, stale-if-error=0", Freshness(0, stale_if_error_s=0)),
    ],
)
def test_cache_control_is_understood(header: str | None, expected: Freshness) -> None:
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
def test_first_directive_counts_when_it_is_repeated(header: str, expected: Freshness) -> None:
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
def test_tag_does_not_match_when_the_condition_names_others(header: str | None) -> None:
    assert not matches(header, "abc")


@pytest.mark.parametrize(
    "header",
    ["gzip", "GZIP", "gzip, deflate, br", "br;q=1.0, gzip;q=0.5", "gzip;q=0.001", "*", "*;q=0.1",
     "identity, *", "gzip;q=1, *;q=0", "deflate , gzip"],
)  # fmt: skip
def test_gzip_is_taken_when_accept_encoding_has_it(header: str) -> None:
    assert accepts_gzip(header)


@pytest.mark.parametrize(
    "header",
    [None, "", "identity", "br", "gzip;q=0", "gzip;q=0.0", "gzip;q=0, *", "*;q=0", "*, gzip;q=0", "notgzip",
     "gzipped"],
)  # fmt: skip
def test_gzip_is_not_taken_when_accept_encoding_has_it_not(header: str | None) -> None:
    assert not accepts_gzip(header)


@given(st.text())
def test_no_header_raises(header: str) -> None:
    accepts_gzip(header)
    matches(header, "abc")
    parse_freshness(header)


def test_headers_of_an_answer_are_those_of_the_contract() -> None:
    assert answer_headers("abc", 61) == {
        "ETag": 'W/"abc"',
        "Cache-Control": "private, no-cache",
        "Vary": "Accept-Encoding",
        "Age": "61",
    }
