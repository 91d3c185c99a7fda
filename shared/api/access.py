"""Access control: checks the APIM subscription key and the administrator's token with its role.

No part of a key or token enters an error or a log line. A library's error may quote the token, so errors are
raised outside of `except` and have no context.
"""

import hmac
import logging
import re
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from shared.api.signing_keys import SigningKeys
from shared.errors import Forbidden, Unauthenticated
from shared.settings import AccessSettings

logger = logging.getLogger(__name__)

AUTHORIZATION_MAX_CHARS = 16 * 2**10
LEEWAY_S = 60.0

_BEARER = re.compile(r"bearer +([\w=-]+\.[\w=-]+\.[\w=-]+)", re.ASCII | re.IGNORECASE)

_NOT_VALID = "The token is not valid"

_FAULTS: Final[dict[type[Exception], str]] = {
    jwt.InvalidIssuerError: "`iss` is not ADMIN_JWT_ISSUER",
    jwt.InvalidAudienceError: "`aud` does not contain ADMIN_JWT_AUDIENCE",
    jwt.InvalidSignatureError: "its signature does not match the key that its `kid` names in ADMIN_JWKS_URL",
    jwt.ImmatureSignatureError: "`nbf` is in the future",
    jwt.ExpiredSignatureError: "`exp` is past",
}
"""The log text for each reason to refuse a token: a claim, and the setting that it does not match."""


class Access:
    """The two checks of every request; they run before storage is read or edX is called."""

    def __init__(self, settings: AccessSettings, keys: SigningKeys) -> None:
        self._settings = settings
        self._keys = keys

    def check_subscription(self, header: str | None) -> None:
        """Check the `Ocp-Apim-Subscription-Key` header as received; no I/O.

        Raises:
            Unauthenticated: the key is missing or not one of ours.
        """
        given = _as_bytes(header or "")
        # A list, not any(): every key is compared, so that the time does not depend on the match.
        matches = [
            hmac.compare_digest(given, _as_bytes(key.get_secret_value()))
            for key in self._settings.subscription_keys
        ]
        if not any(matches):
            raise Unauthenticated("The subscription key is missing or not valid", challenge=False)

    async def check_admin(self, authorization: str | None) -> None:
        """Check that the `Authorization` header has a valid token with the role; may wait for the JWKS.

        Raises:
            Unauthenticated: there is no token, or it is expired, forged, malformed or for another audience.
            Forbidden: the token is valid and does not have the role.
            AccessUnavailable: the key that the token names cannot be fetched.
        """
        if not authorization:
            raise Unauthenticated("The request has no Bearer token", challenge=True)
        bearer = _BEARER.fullmatch(authorization) if len(authorization) <= AUTHORIZATION_MAX_CHARS else None
        kid = _key_id(bearer[1]) if bearer else None
        if not bearer or not kid:
            raise _refused("it is not signed with RS256 or does not name its key (`kid`)", _NOT_VALID)
        key = await self._keys.get(kid)
        if not key:
            raise _refused("ADMIN_JWKS_URL has no key with its `kid`", _NOT_VALID)
        held = self._claims(bearer[1], key).get(self._settings.role_claim)
        if held != self._settings.role and not (isinstance(held, list) and self._settings.role in held):
            logger.warning(
                "A login was refused: the claim named by ADMIN_ROLE_CLAIM does not contain ADMIN_ROLE"
            )
            raise Forbidden("Login user not authorized to perform this action")

    def _claims(self, token: str, key: RSAPublicKey) -> dict[str, Any]:
        """Return the claims of a token after checking signature, issuer, audience and times.

        Claims that are not used (`sub`, `iat`, `jti`) may have any value. `exp` and `nbf` must be numbers
        (RFC 7519, 4.1.4), which PyJWT does not check.
        """
        claims: dict[str, Any] = {}
        fault = "its claims cannot be read"
        try:
            claims = jwt.decode(
                token,
                key,
                algorithms=["RS256"],
                issuer=self._settings.issuer,
                audience=self._settings.audience,
                leeway=LEEWAY_S,
                options={
                    "require": ["exp", "iss", "aud"],  # otherwise a token without exp would be accepted
                    "verify_sub": False,
                    "verify_iat": False,
                    "verify_jti": False,
                },
            )
        except jwt.MissingRequiredClaimError as error:
            fault = f"it has no `{error.claim}`"
        except Exception as error:  # noqa: BLE001 (untrusted input: any error means that it is not valid)
            fault = _FAULTS.get(type(error), fault)
        else:
            wrong = [name for name in ("exp", "nbf") if not _is_number(claims.get(name, 0))]
            if not wrong:
                return claims
            fault = f"`{wrong[0]}` is not a number"
        is_expired = fault == _FAULTS[jwt.ExpiredSignatureError]
        raise _refused(fault, "The token has expired" if is_expired else _NOT_VALID)


def _refused(fault: str, message: str) -> Unauthenticated:
    logger.warning("A token was refused: %s", fault)
    return Unauthenticated(message, challenge=True)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _key_id(token: str) -> str | None:
    """Return the `kid` of an RS256 token; other headers that name a key are ignored."""
    try:
        header = jwt.get_unverified_header(token)
    except Exception:  # noqa: BLE001 (as above)
        return None
    kid: str | None = header.get("kid")  # PyJWT refuses one that is not a text
    # `crit` lists extensions that must be supported; none is supported here.
    return kid if header.get("alg") == "RS256" and "crit" not in header else None


def _as_bytes(text: str) -> bytes:
    # compare_digest accepts only ASCII text; a lone surrogate must not raise here.
    return text.encode("utf-8", "surrogatepass")
