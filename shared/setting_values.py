"""Checks for the values of settings; `settings.py` assigns them to the settings.

A check raises ValueError without a message, because a message could quote the value.
"""

import base64
import re
from ipaddress import IPv4Network, IPv6Address, ip_address
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

from shared import ncrontab
from shared.domain.catalog_id import CATALOG_ID_MAX, parse_catalog_id

# Stricter than any URL parser, so that two parsers cannot disagree about the host. `@` is refused before the
# path: a URL may not contain credentials.
_URL = re.compile(
    r"https?://([a-z0-9][\w.-]*|\[[0-9a-f:.]+\])(:\d{1,5})?(/[!-~]*)?", re.ASCII | re.IGNORECASE
)

URL_RULE = "an https URL (http to a loopback address only) without credentials in it"


def is_loopback(url: str) -> bool:
    """Tell whether a URL's host is this machine: localhost, 127.0.0.0/8 or [::1]."""
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        address = ip_address(host)
    except ValueError:
        return False
    return address == IPv6Address("::1") or address in IPv4Network("127.0.0.0/8")


def is_key_vault_reference(value: str) -> bool:
    """Tell whether a value is a Key Vault reference that the platform has not resolved.

    An app setting keeps its reference when the vault cannot be read. It must not be used as a key: it can be
    guessed.
    """
    return value.strip().lower().startswith("@microsoft.keyvault(")


def entries(value: object) -> object:
    """Split a comma-separated text; drop empty entries, Key Vault references and repeated entries."""
    if not isinstance(value, str):
        return value
    parts = (part.strip() for part in value.split(","))
    return tuple(dict.fromkeys(part for part in parts if part and not is_key_vault_reference(part)))


def _url(value: str) -> str:
    if not _URL.fullmatch(value):
        raise ValueError
    parts = urlsplit(value)
    _ = parts.port  # raises ValueError when it is above 65535
    if parts.scheme != "https" and not is_loopback(value):
        raise ValueError
    return value


def _https_only(value: str) -> str:
    if urlsplit(value).scheme != "https":
        raise ValueError
    return value


def _base_url(value: str) -> str:
    if "?" in value or "#" in value:
        raise ValueError
    return value if value.endswith("/") else f"{value}/"


def _enrollment_template(value: str) -> str:
    rest = value.replace("{key}", "")
    if rest == value or "{" in rest or "}" in rest:
        raise ValueError
    return value


def _without_placeholder(value: str) -> str:
    if "{" in value or "}" in value:
        raise ValueError
    return value


def _connection_string(secret: SecretStr) -> SecretStr:
    text = secret.get_secret_value()
    # The only form in which the SDK accepts Azurite's short name.
    if text.lower() == "usedevelopmentstorage=true":
        return secret
    # As the SDK reads it: names are case-insensitive, may not repeat and need a value.
    pairs = [part.partition("=") for part in text.rstrip(";").split(";")]
    parts = {name.lower(): value for name, _, value in pairs}
    if len(parts) != len(pairs) or not all(parts) or not all(parts.values()):
        raise ValueError
    account = parts.get("accountname")
    if not (account and "accountkey" in parts):
        if "sharedaccesssignature" not in parts:
            raise ValueError
    else:
        base64.b64decode(parts["accountkey"], validate=True)
    protocol = parts.get("defaultendpointsprotocol", "https")
    suffix = parts.get("endpointsuffix", "core.windows.net")
    _url(parts.get("tableendpoint") or f"{protocol}://{account or ''}.table.{suffix}")
    return secret


def _digits(value: object) -> object:
    # int() and pydantic also take "-4", "+4", "4.0" and "4_0".
    if isinstance(value, str) and not re.fullmatch("[0-9]+", value):
        raise ValueError
    return value


def _catalog_id(value: object) -> object:
    return parse_catalog_id(value) if isinstance(value, str) else value


def _schedule(value: str) -> str:
    ncrontab.parse(value)
    return value


Text = Annotated[str, Field(min_length=1)]
Issuer = Annotated[Text, AfterValidator(_without_placeholder)]
Url = Annotated[str, AfterValidator(_url)]
HttpsUrl = Annotated[Url, AfterValidator(_https_only)]
BaseUrl = Annotated[Url, AfterValidator(_base_url)]
EnrollmentTemplate = Annotated[Url, AfterValidator(_enrollment_template)]
ConnectionString = Annotated[SecretStr, AfterValidator(_connection_string)]
WholeNumber = Annotated[int, BeforeValidator(_digits)]
CatalogId = Annotated[int, BeforeValidator(_catalog_id), Field(ge=1, le=CATALOG_ID_MAX)]
NcrontabSchedule = Annotated[str, AfterValidator(_schedule)]
