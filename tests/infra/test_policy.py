"""The gateway's policy: it can be parsed, its steps are in order, its expressions handle their cases.

Expressions are C#, which cannot run here; their regular expressions mean the same in Python.
"""

import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pycep import BicepParser

INFRA = Path(__file__).parents[2] / "infra"


def policy() -> ET.Element:
    return ET.parse(INFRA / "api-policy.xml").getroot()  # noqa: S314 - our own file


def gateway() -> Any:
    return BicepParser().parse(file_path=INFRA / "gateway.bicep")


def expressions() -> Iterator[str]:
    """Yield every C# expression as the gateway reads it."""
    for element in policy().iter():
        for text in (*element.attrib.values(), element.text or ""):
            if text.strip().startswith(("@(", "@{")):
                yield text.strip()


def condition_with(text: str) -> str:
    return next(found for found in expressions() if text in found)


def patterns(expression: str) -> list[re.Pattern[str]]:
    """Return the regular expressions in C#'s verbatim strings."""
    return [re.compile(found.replace('""', '"')) for found in re.findall(r'@"((?:[^"]|"")*)"', expression)]


def answers() -> dict[str, tuple[str, str]]:
    """Return, by body, the status and WWW-Authenticate of each answer of the gateway itself."""
    found = {}
    for answer in policy().iter("return-response"):
        status = answer.find("set-status")
        assert status is not None
        found[answer.findtext("set-body", "").strip()] = (
            status.get("code", ""),
            answer.findtext("set-header[@name='WWW-Authenticate']/value", ""),
        )
    return found


def test_policy_uses_the_named_values_that_are_deployed() -> None:
    text = (INFRA / "api-policy.xml").read_text()
    deployed = {item["name"] for item in gateway()["variables"]["namedValues"]["value"]}
    assert set(re.findall(r"\{\{(.*?)}}", text)) == deployed | {"function-key"}


def test_no_named_value_is_inside_an_expression() -> None:
    found = list(expressions())
    assert len(found) > 8
    assert not [text for text in found if "{{" in text]


@pytest.mark.parametrize("expression", list(expressions()))
def test_brackets_and_quotes_are_balanced_in_an_expression(expression: str) -> None:
    code = re.sub(r'@"(?:[^"]|"")*"|"(?:[^"\\]|\\.)*"', "", expression)
    assert '"' not in code
    for opening, closing in ("()", "{}", "[]"):
        assert code.count(opening) == code.count(closing)
    assert "return" in code or expression.startswith("@(")


@pytest.mark.parametrize("name", ["admin-role-claim", "admin-role"])
def test_roles_are_percent_encoded_for_the_policy_and_decoded_by_it(name: str) -> None:
    item = next(item for item in gateway()["variables"]["namedValues"]["value"] if item["name"] == name)
    assert item["value"]["function"]["type"] == "uri_component"
    assert policy().find(f"inbound/set-variable[@name='{name}']").get("value") == f"{{{{{name}}}}}"  # type: ignore[union-attr]
    assert f'Uri.UnescapeDataString((string)context.Variables["{name}"])' in condition_with("claims")


def test_policy_checks_in_order_when_a_request_comes_in() -> None:
    steps = [step.tag for step in policy().iterfind("inbound/*")]
    assert steps == [
        "base",
        "cors",
        "set-backend-service",
        "validate-jwt",
        "set-variable",
        "set-variable",
        "choose",  # the role
        "set-variable",
        "choose",  # the rate limit
        "set-header",
        "set-query-parameter",
        "set-header",
    ]
    assert [step.tag for step in policy()] == ["inbound", "backend", "outbound", "on-error"]


def test_backend_is_the_function_app_independent_of_the_imported_api() -> None:
    assert policy().find("inbound/set-backend-service[@base-url='{{function-app-url}}']") is not None
    assert "serviceUrl" not in gateway()["resources"]["api"]["config"]["properties"]


def test_policy_answers_403_as_documented_when_the_role_is_missing() -> None:
    answer = policy().find("inbound/choose/when/return-response")
    assert answer is not None
    assert answer.find("set-status[@code='403']") is not None
    assert json.loads(answer.findtext("set-body", "")) == "Login user not authorized to perform this action"


def test_policy_adds_the_function_key_and_keeps_the_callers_key_and_token_when_it_forwards() -> None:
    headers = {header.get("name"): header for header in policy().iterfind("inbound/set-header")}
    assert set(headers) == {"Ocp-Apim-Subscription-Key", "x-functions-key"}
    assert headers["x-functions-key"].findtext("value") == "{{function-key}}"
    # A key in the address becomes the header, unless the caller has sent that.
    assert headers["Ocp-Apim-Subscription-Key"].get("exists-action") == "skip"
    removed = policy().find("inbound/set-query-parameter[@name='subscription-key']")
    assert removed is not None
    assert removed.get("exists-action") == "delete"


@pytest.mark.parametrize("name", ["diagnostic", "azureMonitorDiagnostic"])
def test_a_subscription_key_is_masked_in_the_logs_when_it_is_in_the_url(name: str) -> None:
    logged = gateway()["resources"][name]["config"]["properties"]
    assert logged["frontend"] == logged["backend"] == {"request": "maskedRequest"}
    masked = gateway()["variables"]["maskedRequest"]["value"]["dataMasking"]["queryParams"]
    assert masked == [{"value": "subscription-key", "mode": "Mask"}]


def test_policy_has_one_origin_to_replace_when_bicep_fills_in_the_list() -> None:
    origins = [origin.text for origin in policy().iter("origin")]
    assert origins == ["https://cors-origins.invalid"]
    assert "'https://cors-origins.invalid', origins)" in (INFRA / "gateway.bicep").read_text()


def test_browsers_may_send_and_read_the_headers_of_the_contract() -> None:
    allowed = {header.text for header in policy().iterfind("inbound/cors/allowed-headers/header")}
    exposed = {header.text for header in policy().iterfind("inbound/cors/expose-headers/header")}
    assert {"Authorization", "Cache-Control", "If-None-Match", "Ocp-Apim-Subscription-Key"} < allowed
    assert "traceparent" in allowed
    assert {"Age", "Cache-Status", "ETag", "Link", "Retry-After", "WWW-Authenticate"} == exposed


@pytest.mark.parametrize(
    ("cache_control", "fresh_for_s", "counts"),
    [
        ("", 900, False),
        ("no-cache", 900, True),
        ("No-Cache", 900, True),
        ("max-age=0", 900, True),
        ("max-age=899", 900, True),
        ("max-age=900", 900, False),
        ("max-age=86400, stale-if-error=60", 900, False),
        ('max-age="60"', 900, True),
        ("max-age=000000000060", 900, True),
        ("max-age=99999999999999999999", 900, False),
        ("max-age=-1", 900, False),
        ("max-age=soon", 900, False),
        ("max-age=soon, max-age=5", 900, True),
        ("max-age=1000, max-age=5", 900, False),
        ("only-if-cached, no-cache", 900, False),
        ("max-age=5, only-if-cached", 900, False),
        ("no-cache-please", 900, False),
        ("stale-if-error=5", 900, False),
    ],
)
def test_calls_count_for_the_rate_limit_when_they_ask_for_fresher_data_than_usual(
    cache_control: str, fresh_for_s: int, *, counts: bool
) -> None:
    only_if_cached, no_cache, max_age = patterns(condition_with("max-age"))
    asked = cache_control.lower()
    match = max_age.search(asked)
    fresher = match is not None and int(match[2]) < fresh_for_s
    assert (not only_if_cached.search(asked) and bool(no_cache.search(asked) or fresher)) is counts


def test_rate_limit_is_per_subscription_and_has_retry_after() -> None:
    limit = policy().find("inbound/choose/when/rate-limit-by-key")
    assert limit is not None
    assert limit.attrib == {
        "calls": "3",
        "renewal-period": "300",
        "counter-key": "@(context.Subscription.Id)",
        "retry-after-variable-name": "retry-after-seconds",
    }
    answer = policy().find(
        "on-error/choose/when[@condition='@(context.LastError.Reason == \"RateLimitExceeded\")']"
    )
    assert answer is not None
    assert "retry-after-seconds" in answer.findtext(
        "return-response/set-header[@name='Retry-After']/value", ""
    )


@pytest.mark.parametrize(
    ("reason", "message", "is_bad_login"),
    [
        ("TokenNotPresent", "JWT not present.", True),
        ("TokenExpired", "IDX10223: Lifetime validation failed. The token is expired.", True),
        ("TokenSignatureInvalid", "IDX10511: Signature validation failed. Keys tried: …", True),
        ("TokenSignatureKeyNotFound", "IDX10501: Signature validation failed. Unable to match keys.", True),
        ("JwtInvalid", "IDX12741: JWT must have three segments", True),
        ("TokenSignatureKeyNotFound", "IDX10500: No security keys were provided.", False),
        ("JwtInvalid", "IDX20803: Unable to obtain configuration from: 'https://…'.", False),
        ("JwtInvalid", "IDX10803: Unable to obtain configuration from: 'https://…'.", False),
        ("JwtInvalid", "IDX20804: Unable to retrieve document from: 'https://…'.", False),
        ("Timeout", "The operation has timed out.", False),
        ("", "An error occurred", False),
    ],
)
def test_only_an_invalid_token_is_answered_like_a_failed_login(
    reason: str, message: str, *, is_bad_login: bool
) -> None:
    condition = condition_with("JwtInvalid")
    without_keys = re.search(r'Regex\.IsMatch\(context\.LastError\.Message \?\? "", "([^"]+)"\)', condition)
    assert without_keys
    assert 'reason.StartsWith("Token") || reason == "JwtInvalid"' in condition
    of_the_token = reason.startswith("Token") or reason == "JwtInvalid"
    assert (of_the_token and not re.search(without_keys[1], message)) is is_bad_login


def test_failures_of_the_gateway_are_json_strings_without_internal_messages() -> None:
    fixed = {body: answer for body, answer in answers().items() if not body.startswith("@")}
    assert {json.loads(body): answer for body, answer in fixed.items()} == {
        "Login user not authorized to perform this action": ("403", ""),
        "Too many calls with no-cache or a small max-age. Try again later, or without them.": ("429", ""),
        "The login token is missing, expired or not valid": ("401", "Bearer"),
        "The subscription key is missing or not valid": ("401", ""),
        "There is no such operation": ("404", ""),
    }
    (body,) = set(answers()) - set(fixed)
    assert answers()[body] == ("500", "")
    assert body.startswith("@(JsonConvert.SerializeObject(")
    for element in policy().iter():
        if element.tag in {"set-body", "value"}:
            assert "LastError.Message" not in (element.text or "")
