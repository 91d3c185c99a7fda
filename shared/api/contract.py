"""The HTTP contract of `GET /ExternalLinks/edXCourseruns` and its `/changes`: parses requests, makes headers.

Pure: text in, values out. Freshness follows RFC 9111 and RFC 5861, conditions RFC 9110.
"""

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from werkzeug.datastructures import Accept
from werkzeug.http import parse_accept_header, parse_etags

from shared.domain.catalog_id import parse_catalog_id
from shared.domain.course_run import RUN_KEY_MAX
from shared.domain.query import ChangesQuestion, Freshness, Question
from shared.errors import BadRequest

CHANGES_LIMIT_DEFAULT = 100
CHANGES_LIMIT_MAX = 1000
"""Maximum number of entries per answer."""

_COURSE_RUNS = ("catalogId", "courserunKey")
_CHANGES = ("since", "catalogId", "courserunKey", "limit", "cursor")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
# One directive with its token or quoted value, from comma to comma. (Werkzeug's parser uses the last of a
# repeated directive; the contract says the first.)
_DIRECTIVE = re.compile(r'(?:^|,)\s*([!#$%&\'*+.^_`|~\w-]+)(?:=("[^"]*"|[^",\s]*))?(?=\s*(?:,|$))', re.ASCII)
_SECONDS = re.compile(r'"?([0-9]+)"?', re.ASCII)
_SECONDS_MAX = 2**31  # RFC 9111, 1.2.2: the value for larger numbers
# RFC 3339, 5.6, or a date alone. Python's parser accepts much more.
_MOMENT = re.compile(
    r"\d{4}-\d\d-\d\d(?P<time>t\d\d:\d\d:\d\d(\.\d{1,9})?(z|[+-]\d\d:\d\d))?", re.ASCII | re.IGNORECASE
)
_LIMIT = re.compile("[1-9][0-9]{0,3}", re.ASCII)
_QUERY_FIELDS_MAX = 1_000


def parse_question(url: str, params: Mapping[str, str], cache_control: str | None) -> Question:
    """Parse a request for course runs.

    Args:
        url: the source of the parameters, in which a repeated one can be detected.
        params: the parameters as the host parsed them, used when the URL has no query.
        cache_control: the request's header.

    Raises:
        BadRequest: a parameter is malformed or repeated.
    """
    given = _parameters(_COURSE_RUNS, url, params)
    return Question(
        _catalog_id(given["catalogId"]),
        _courserun_key(given["courserunKey"]),
        parse_freshness(cache_control),
    )


def parse_changes_question(url: str, params: Mapping[str, str]) -> ChangesQuestion:
    """Parse a request for the history; arguments and errors as for `parse_question`."""
    given = _parameters(_CHANGES, url, params)
    return ChangesQuestion(
        since=_since(given["since"]),
        catalog_id=_catalog_id(given["catalogId"]),
        courserun_key=_courserun_key(given["courserunKey"]),
        limit=_limit(given["limit"]),
        cursor=given["cursor"] or None,
    )


def _parameters(names: Sequence[str], url: str, params: Mapping[str, str]) -> dict[str, str]:
    """Return the value of each named parameter, "" when it is absent; other parameters are ignored."""
    try:
        pairs = parse_qsl(urlsplit(url).query, keep_blank_values=True, max_num_fields=_QUERY_FIELDS_MAX)
    except ValueError:
        raise BadRequest("The query string is malformed or has too many parameters") from None
    in_url = {name.lower() for name, _ in pairs}
    values: dict[str, str] = {}
    for name, value in [*pairs, *(pair for pair in params.items() if pair[0].lower() not in in_url)]:
        ours = next((each for each in names if each.lower() == name.lower()), None)
        if ours is None:
            continue
        # Otherwise the caller would get the complete catalogue and believe that it is filtered.
        if ours != name:
            raise BadRequest(f"The parameter {name} is unknown; use {ours}")
        if ours in values:
            raise BadRequest(f"{ours} is given more than once; give it once")
        values[ours] = value
    return {name: values.get(name, "") for name in names}


def _catalog_id(value: str) -> int | None:
    if not value:
        return None
    catalog_id = parse_catalog_id(value)
    if catalog_id is None:
        raise BadRequest("catalogId must be a whole number above 0")
    return catalog_id


def _courserun_key(value: str) -> str | None:
    if not value:
        return None
    if len(value) > RUN_KEY_MAX or _CONTROL.search(value):
        raise BadRequest(
            f"courserunKey must be at most {RUN_KEY_MAX} characters, none of them a control character"
        )
    return value


def _since(value: str) -> datetime | None:
    if not value:
        return None
    # A space in an offset is an unencoded plus sign.
    match = _MOMENT.fullmatch(value.replace(" ", "+"))
    moment = None
    if match:
        text = match[0].upper()
        with suppress(ValueError, OverflowError):  # February 30; the year 0 in UTC
            moment = datetime.fromisoformat(text if match["time"] else f"{text}T00:00:00Z").astimezone(UTC)
    if moment is None:
        raise BadRequest("since must be a time such as 2026-11-24T12:00:00Z, or a date such as 2026-11-24")
    return moment


def _limit(value: str) -> int:
    if not value:
        return CHANGES_LIMIT_DEFAULT
    limit = int(value) if _LIMIT.fullmatch(value) else 0
    if not 1 <= limit <= CHANGES_LIMIT_MAX:
        raise BadRequest(f"limit must be a whole number from 1 to {CHANGES_LIMIT_MAX}")
    return limit


def next_link(asked: ChangesQuestion, cursor: str) -> str:
    """Return the `Link` header to the next page (RFC 8288).

    It is relative and contains only our parameters: the URL that reaches us contains the function key.
    """
    parameters = {
        "since": asked.since.isoformat().replace("+00:00", "Z") if asked.since else None,
        "catalogId": asked.catalog_id,
        "courserunKey": asked.courserun_key,
        "limit": asked.limit,
        "cursor": cursor,
    }
    query = urlencode(
        {name: value for name, value in parameters.items() if value is not None}, quote_via=quote
    )
    return f'<?{query}>; rel="next"'


def parse_freshness(cache_control: str | None) -> Freshness:
    """Parse Cache-Control; malformed directives are ignored, and the first of a repeated one is used."""
    seconds: dict[str, int] = {}
    flags = set()
    for match in _DIRECTIVE.finditer(cache_control or ""):
        name, value = match[1].lower(), match[2]
        if name in {"max-age", "stale-if-error"}:
            number = _SECONDS.fullmatch(value or "")
            if number:
                digits = number[1].lstrip("0")
                seconds.setdefault(name, min(int(digits[:11] or "0"), _SECONDS_MAX))
        elif value is None:
            flags.add(name)
    is_no_cache = "no-cache" in flags
    return Freshness(
        0 if is_no_cache else seconds.get("max-age"),
        "only-if-cached" in flags,
        # With no-cache, stale data is returned only if the request also has stale-if-error.
        seconds.get("stale-if-error", 0 if is_no_cache else None),
    )


def accepts_gzip(accept_encoding: str | None) -> bool:
    """Tell whether a request's Accept-Encoding accepts gzip."""
    if not accept_encoding:
        return False
    return parse_accept_header(accept_encoding, Accept).quality("gzip") > 0


def matches(if_none_match: str | None, tag: str) -> bool:
    """Tell whether a request's If-None-Match names the tag (weak comparison)."""
    return bool(if_none_match) and parse_etags(if_none_match).contains_weak(tag)


def answer_headers(tag: str, age_s: int, cache_status: str) -> dict[str, str]:
    """Return the headers that a 200 and a 304 have in common."""
    return {
        "ETag": f'W/"{tag}"',
        "Cache-Control": "private, no-cache",
        "Vary": "Accept-Encoding",
        "Age": str(age_s),
        "Cache-Status": f"luminus-edx-connector; {cache_status}",
    }
