"""The HTTP contract of `GET /ExternalLinks/edXCourseruns`: what a request asks, what an answer's headers say.

Pure: text in, values out. Freshness follows RFC 9111 and RFC 5861, conditions RFC 9110.
"""

import re
from collections.abc import Mapping
from urllib.parse import parse_qsl, urlsplit

from werkzeug.datastructures import Accept
from werkzeug.http import parse_accept_header, parse_etags

from shared.domain.catalog_id import parse_catalog_id
from shared.domain.course_run import RUN_KEY_MAX
from shared.domain.query import Freshness, Question
from shared.errors import BadRequest

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
# One directive with its token or quoted value, from comma to comma. (Werkzeug's parser lets the last of a
# repeated directive count; the contract says the first.)
_DIRECTIVE = re.compile(r'(?:^|,)\s*([!#$%&\'*+.^_`|~\w-]+)(?:=("[^"]*"|[^",\s]*))?(?=\s*(?:,|$))', re.ASCII)
_SECONDS = re.compile(r'"?([0-9]+)"?', re.ASCII)
_SECONDS_MAX = 2**31  # RFC 9111, 1.2.2: what is larger counts as this
_QUERY_FIELDS_MAX = 1_000


def parse_question(url: str, params: Mapping[str, str], cache_control: str | None) -> Question:
    """Return what a request asks for. Parameters come from the URL, where a repeated one can be seen.

    Raises:
        BadRequest: a parameter is malformed or repeated.
    """
    return Question(
        _catalog_id(_parameter("catalogId", url, params)),
        _courserun_key(_parameter("courserunKey", url, params)),
        parse_freshness(cache_control),
    )


def _parameter(name: str, url: str, params: Mapping[str, str]) -> str:
    try:
        pairs = parse_qsl(urlsplit(url).query, keep_blank_values=True, max_num_fields=_QUERY_FIELDS_MAX)
    except ValueError:
        raise BadRequest("The query string cannot be read") from None
    values = [value for key, value in pairs if key == name]
    if len(values) > 1:
        raise BadRequest(f"{name} is given more than once")
    return values[0] if values else params.get(name, "")


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
    return value.replace(" ", "+")  # a plus sign that was not encoded; keys have no spaces


def parse_freshness(cache_control: str | None) -> Freshness:
    """Read a request's Cache-Control: the malformed is ignored, of a repeated directive the first counts."""
    seconds: dict[str, int] = {}
    flags = set()
    for match in _DIRECTIVE.finditer(cache_control or ""):
        name, value = match[1].lower(), match[2]
        if name in {"max-age", "stale-if-error"}:
            number = _SECONDS.fullmatch(value or "")
            if number:
                digits = number[1].lstrip("0")
                seconds.setdefault(name, min(int(digits[:11] or "0"), _SECONDS_MAX))
        elif name in {"no-cache", "only-if-cached"} and value is None:
            flags.add(name)
    return Freshness(
        0 if "no-cache" in flags else seconds.get("max-age"),
        "only-if-cached" in flags,
        seconds.get("stale-if-error"),
    )


def accepts_gzip(accept_encoding: str | None) -> bool:
    """Tell whether a request's Accept-Encoding takes gzip."""
    if not accept_encoding:
        return False
    return parse_accept_header(accept_encoding, Accept).quality("gzip") > 0


def matches(if_none_match: str | None, tag: str) -> bool:
    """Tell whether a request's If-None-Match names the tag (weak comparison)."""
    return bool(if_none_match) and parse_etags(if_none_match).contains_weak(tag)


def answer_headers(tag: str, age_s: int) -> dict[str, str]:
    """Return the headers that a 200 and a 304 have in common."""
    return {
        "ETag": f'W/"{tag}"',
        "Cache-Control": "private, no-cache",
        "Vary": "Accept-Encoding",
        "Age": str(age_s),
    }
