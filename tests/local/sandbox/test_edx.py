"""The behaviour of the real server, over HTTP."""

import pytest

from tests.local.sandbox.caller import COURSES, FOREIGN, Caller, keys


def test_token_is_given_when_the_credentials_are_right(edx: Caller) -> None:
    token = edx.token()
    assert (token["token_type"], token["expires_in"]) == ("JWT", 180)


def test_token_is_refused_when_the_secret_is_wrong(edx: Caller) -> None:
    assert edx.token(client_secret="guess") == {"error": "invalid_client"}
    assert edx.sandbox.requests[-1].status == 401


def test_catalogs_list_only_ours_when_others_exist(edx: Caller) -> None:
    page = edx.get("catalog/v1/catalogs/").json()
    assert page["count"] == 2
    assert page["results"][0] == {
        "id": 1,
        "name": "Ours",
        "query": "*:*",
        "courses_count": 52,
        "viewers": ["sandbox-user"],
    }
    assert edx.get("catalog/v1/catalogs/1/").json() == page["results"][0]


@pytest.mark.parametrize(
    ("path", "status", "detail"),
    [
        ("catalog/v1/catalogs/3/", 403, "You do not have permission to perform this action."),
        ("catalog/v1/catalogs/3/courses/", 403, "You do not have permission to perform this action."),
        ("catalog/v1/catalogs/99/courses/", 404, "No Catalog matches the given query."),
        ("catalog/v1/nothing/", 404, "Not found."),
    ],
)
def test_error_has_the_text_of_edx_when_a_catalog_is_not_ours(
    edx: Caller, path: str, status: int, detail: str
) -> None:
    response = edx.get(path)
    assert (response.status_code, response.json()) == (status, {"detail": detail})


def test_path_is_redirected_when_its_last_slash_is_missing(edx: Caller) -> None:
    response = edx.get("catalog/v1/catalogs/1/courses?limit=5")
    assert (response.status_code, response.headers["Location"]) == (301, f"/{COURSES}?limit=5")


def test_pages_are_walked_by_limit_and_offset_when_page_size_is_ignored(edx: Caller) -> None:
    first = edx.get(f"{COURSES}?page_size=3")
    assert (first.json()["count"], len(keys(first)), first.json()["previous"]) == (45, 20, None)
    assert first.json()["next"] == f"{FOREIGN}?page_size=3&limit=20&offset=20"
    last = edx.get(f"{COURSES}?limit=20&offset=40")
    assert keys(last) == ["NUSx+40x", "NUSx+41x", "NUSx+42x", "NUSx+43x", "NUSx+44x"]
    assert (last.json()["next"], last.json()["previous"]) == (None, f"{FOREIGN}?limit=20&offset=20")


def test_page_has_the_requested_size_or_is_empty_when_the_offset_is_past_the_end(edx: Caller) -> None:
    assert len(keys(edx.get(f"{COURSES}?limit=1000"))) == 45
    past = edx.get(f"{COURSES}?limit=20&offset=100")
    assert (past.status_code, past.json()["results"], past.json()["next"]) == (200, [], None)


def test_pages_are_numbered_when_the_query_has_a_page(edx: Caller) -> None:
    page = edx.get(f"{COURSES}?page=2&page_size=10")
    assert keys(page)[0] == "NUSx+10x"
    assert page.json()["next"] == f"{FOREIGN}?page=3&page_size=10"


def test_body_is_compressed_when_the_caller_accepts_it(edx: Caller) -> None:
    plain = edx.get(**{"Accept-Encoding": "identity"})
    packed = edx.get(**{"Accept-Encoding": "gzip"})
    assert (plain.headers.get("Content-Encoding"), packed.headers["Content-Encoding"]) == (None, "gzip")
    assert plain.content == packed.content
    assert int(packed.headers["Content-Length"]) < len(plain.content) / 2


def test_token_stops_working_when_it_expires(edx: Caller) -> None:
    edx.sandbox.expire_tokens()
    response = edx.get()
    assert (response.status_code, response.json()) == (401, {"detail": "Token has expired."})


def test_token_is_expired_at_once_when_its_lifetime_is_0(edx: Caller) -> None:
    edx.sandbox.token_valid_s = 0
    token = edx.token()
    assert token["expires_in"] == 180
    assert edx.get(Authorization=f"JWT {token['access_token']}").json() == {"detail": "Token has expired."}


@pytest.mark.parametrize("authorization", ["", "JWT made-up", "Bearer made-up"])
def test_call_is_refused_when_it_has_no_valid_token(edx: Caller, authorization: str) -> None:
    response = edx.get(Authorization=authorization)
    assert response.status_code == 401
    assert list(response.json()) == ["detail"]


def test_user_is_throttled_when_the_requests_of_an_hour_are_used_up(edx: Caller) -> None:
    edx.sandbox.requests_per_hour = 3
    assert edx.get(Authorization="JWT made-up").status_code == 401  # not counted: it has no user
    answers = [
        edx.get(path) for path in (COURSES, "catalog/v1/catalogs/", "catalog/v1/catalogs/99/", COURSES)
    ]
    assert [answer.status_code for answer in answers] == [200, 200, 404, 429]
    seconds = int(answers[-1].headers["Retry-After"])
    assert 3590 <= seconds <= 3600
    assert answers[-1].json() == {
        "detail": f"Request was throttled. Expected available in {seconds} seconds."
    }
    assert edx.token()["expires_in"] == 180


def test_throttling_has_no_retry_after_when_the_limit_was_lowered(edx: Caller) -> None:
    edx.sandbox.requests_per_hour = 3
    assert [edx.get().status_code for _ in range(2)] == [200, 200]
    edx.sandbox.requests_per_hour = 1
    response = edx.get()
    assert (response.status_code, response.headers.get("Retry-After")) == (429, None)
    assert response.json() == {"detail": "Request was throttled."}
    edx.sandbox.requests_per_hour = None
    assert edx.get().status_code == 200
    edx.sandbox.requests_per_hour = 1
    assert edx.get().status_code == 200  # counted from the moment at which the limit is set
