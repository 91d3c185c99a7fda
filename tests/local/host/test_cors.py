"""Cross-origin requests, answered like Core Tools."""

from pathlib import Path

import pytest
import requests

from local.host import Host
from local.host.cors import Cors, cors_options

NEVER = "0 0 0 1 1 *"


PREFLIGHT = {
    "Origin": "https://luminus.example",
    "Access-Control-Request-Method": "GET",
    "Access-Control-Request-Headers": "authorization,ocp-apim-subscription-key",
}


def cors_headers(answer: requests.Response) -> dict[str, str]:
    names = ("access-control-", "vary")
    return {name: value for name, value in answer.headers.items() if name.lower().startswith(names)}


def serve(app_directory: Path, cors: Cors | None = None) -> Host:
    return Host(app_directory, environment={"SCHEDULE": NEVER}, cors=cors)


def test_preflight_is_answered_when_the_origin_is_listed(app_directory: Path) -> None:
    cors = Cors("https://other.example, https://luminus.example", credentials=True)
    with serve(app_directory, cors) as host:
        answer = requests.options(f"{host.url}/Pre/Links/echo", headers=PREFLIGHT, timeout=10)

    assert (answer.status_code, answer.content) == (204, b"")
    assert cors_headers(answer) == {
        "Access-Control-Allow-Origin": "https://luminus.example",
        "Access-Control-Allow-Credentials": "true",
        "Access-Control-Allow-Methods": "GET",
        "Access-Control-Allow-Headers": "authorization,ocp-apim-subscription-key",
        "Vary": "Origin",
    }


def test_preflight_allows_nothing_when_the_origin_is_not_listed(app_directory: Path) -> None:
    with serve(app_directory, Cors("https://other.example,*")) as host:
        answer = requests.options(f"{host.url}/Pre/Links/echo", headers=PREFLIGHT, timeout=10)

    assert (answer.status_code, cors_headers(answer)) == (204, {})


def test_preflight_is_a_method_like_any_other_when_no_origin_is_listed(app_directory: Path) -> None:
    with serve(app_directory) as host:
        answer = requests.options(f"{host.url}/Pre/Links/echo", headers=PREFLIGHT, timeout=10)

    assert (answer.status_code, cors_headers(answer)) == (404, {})


def test_answers_can_be_read_by_any_origin_when_the_list_says_so(app_directory: Path) -> None:
    with serve(app_directory, Cors("*")) as host:
        answers = [
            requests.get(host.url + path, headers={"Origin": "null"}, timeout=10)
            for path in ("/Pre/Links/echo", "/Pre/unknown", "/Pre/broken")
        ]
        without_origin = requests.get(f"{host.url}/Pre/Links/echo", timeout=10)

    assert [answer.status_code for answer in answers] == [200, 404, 500]
    assert [cors_headers(answer) for answer in answers] == [{"Access-Control-Allow-Origin": "*"}] * 3
    assert cors_headers(without_origin) == {}


def test_vary_of_the_function_is_kept_when_origins_differ(app_directory: Path) -> None:
    with serve(app_directory, Cors("https://a.example,https://b.example")) as host:
        answer = requests.get(f"{host.url}/Pre/zipped", headers={"Origin": "https://B.example"}, timeout=10)

    assert cors_headers(answer) == {
        "Access-Control-Allow-Origin": "https://B.example",
        "Vary": "Accept-Encoding, Origin",
    }


def test_credentials_are_refused_when_every_origin_is_allowed() -> None:
    with pytest.raises(ValueError, match=r"name the origins instead of \*"):
        Cors("*", credentials=True)


@pytest.mark.parametrize(
    ("host_section", "options"),
    [
        (
            '{"CORS": "https://a.example", "CORSCredentials": true}',
            ["--cors", "https://a.example", "--cors-credentials"],
        ),
        ('{"CORS": "*", "CORSCredentials": "yes"}', ["--cors", "*"]),
        ('{"LocalHttpPort": 7071}', []),
        ("null", []),
    ],
)
def test_origins_are_read_from_the_settings_file(
    tmp_path: Path, host_section: str, options: list[str]
) -> None:
    file = tmp_path / "local.settings.json"
    file.write_text(f'{{"Values": {{}}, "Host": {host_section}}}')
    assert cors_options(file) == options
    assert cors_options(tmp_path / "none.json") == []
