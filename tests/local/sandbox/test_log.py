"""The log of requests."""

from concurrent.futures import ThreadPoolExecutor

from tests.local.sandbox.caller import COURSES, Caller


def test_log_contains_every_request(edx: Caller) -> None:
    edx.get(f"{COURSES}?limit=5&offset=10")
    (request,) = edx.sandbox.requests
    assert (request.method, request.path, request.status) == ("GET", f"/{COURSES}", 200)
    assert (request.query, request.scheme) == ({"limit": "5", "offset": "10"}, "JWT")
    assert request.token not in repr(request)
    assert edx.sandbox.requests_to("/jwks") == []


def test_maximum_in_flight_is_counted_when_callers_overlap(edx: Caller) -> None:
    edx.sandbox.latency_s = 0.2
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: edx.get(), range(4)))
    assert edx.sandbox.max_in_flight == 4


def test_one_request_is_in_flight_when_calls_are_sequential(edx: Caller) -> None:
    for _ in range(50):
        edx.get(f"{COURSES}?limit=1")
    assert edx.sandbox.max_in_flight == 1
