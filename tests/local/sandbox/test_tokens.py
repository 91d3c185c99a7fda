"""Tokens of administrators."""

import jwt
import pytest

from local.sandbox import Sandbox
from local.sandbox.tokens import SigningKey


def verified(sandbox: Sandbox, token: str) -> dict[str, object]:
    key = jwt.PyJWKClient(f"{sandbox.url}jwks").get_signing_key_from_jwt(token)
    claims: dict[str, object] = jwt.decode(
        token, key, algorithms=["RS256"], issuer=sandbox.url, audience="luminus-edx-connector"
    )
    return claims


def test_minted_token_verifies_against_the_jwks_when_nothing_is_overridden(sandbox: Sandbox) -> None:
    claims = verified(sandbox, sandbox.mint())
    assert (claims["sub"], claims["roles"]) == ("local-admin", ["LumiNUS.Admin"])
    sandbox.rotate_key()
    assert verified(sandbox, sandbox.mint(sub="other", roles=None)).keys().isdisjoint({"roles"})


@pytest.mark.parametrize(
    "forgery",
    [
        {"exp": 1},
        {"iss": "https://example.org/"},
        {"aud": "other"},
        {"header": {"alg": "none"}},
        {"header": {"alg": "HS256"}},
        {"header": {"kid": "unknown"}},
        {"key": SigningKey("same-kid"), "header": {"kid": None}},
    ],
    ids="+".join,
)
def test_token_does_not_verify_when_it_is_forged(sandbox: Sandbox, forgery: dict[str, object]) -> None:
    with pytest.raises(jwt.PyJWTError):
        verified(sandbox, sandbox.mint(**forgery))  # type: ignore[arg-type]
