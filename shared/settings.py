"""Typed settings: the only reader of the environment.

An alias is the environment's name of a setting, a description is what is expected of it. A missing or
malformed setting is one ConfigurationError that names it and never holds its value.
"""

import base64
import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from ipaddress import IPv4Network, IPv6Address, ip_address
from pathlib import Path
from typing import Annotated, Self, TypeVar
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)

from shared.domain.catalog_id import CATALOG_ID_MAX, parse_catalog_id
from shared.errors import ConfigurationError

# Stricter than any URL parser, so that no two of them can read a different host out of one value. There is
# no `@` before the path: a URL with credentials in it is refused.
_URL = re.compile(
    r"https?://([a-z0-9][\w.-]*|\[[0-9a-f:.]+\])(:\d{1,5})?(/[!-~]*)?", re.ASCII | re.IGNORECASE
)

_URL_RULE = "an https URL (http to a loopback address only) without credentials in it"


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


def _url(value: str) -> str:
    if not _URL.fullmatch(value):
        raise ValueError
    parts = urlsplit(value)
    _ = parts.port  # raises ValueError when it is above 65535
    if parts.scheme != "https" and not is_loopback(value):
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


def _connection_string(secret: SecretStr) -> SecretStr:
    text = secret.get_secret_value()
    # The one form in which the SDK takes Azurite's short name.
    if text.lower() == "usedevelopmentstorage=true":
        return secret
    # As the SDK reads it: names in any case, none twice, none without a value.
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


def _entries(value: object) -> object:
    """Split a comma-separated text; empty entries are none, and a repeated one counts once."""
    if not isinstance(value, str):
        return value
    return tuple(dict.fromkeys(entry for part in value.split(",") if (entry := part.strip())))


def _digits(value: object) -> object:
    # int() and pydantic also take "+4", "4.0" and "4_0".
    if isinstance(value, str) and not re.fullmatch("[0-9]+", value):
        raise ValueError
    return value


def _catalog_id(value: object) -> object:
    return parse_catalog_id(value) if isinstance(value, str) else value


Text = Annotated[str, Field(min_length=1)]
Url = Annotated[str, AfterValidator(_url)]
WholeNumber = Annotated[int, BeforeValidator(_digits)]
CatalogId = Annotated[int, BeforeValidator(_catalog_id), Field(ge=1, le=CATALOG_ID_MAX)]


class _Settings(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_by_name=True, validate_by_alias=True, hide_input_in_errors=True
    )


class AccessSettings(_Settings):
    """Who may call: the APIM subscription keys and what an administrator's token must show."""

    subscription_keys: Annotated[tuple[SecretStr, ...], BeforeValidator(_entries)] = Field(
        alias="APIM_SUBSCRIPTION_KEYS",
        min_length=1,
        description="one or more subscription keys, separated by commas",
    )
    issuer: Text = Field(alias="ADMIN_JWT_ISSUER", description="the exact `iss` of administrators' tokens")
    audience: Text = Field(alias="ADMIN_JWT_AUDIENCE", description="the `aud` of administrators' tokens")
    jwks_url: Url = Field(alias="ADMIN_JWKS_URL", description=_URL_RULE)
    role_claim: Text = Field("roles", alias="ADMIN_ROLE_CLAIM", description="the name of the role claim")
    role: Text = Field("LumiNUS.Admin", alias="ADMIN_ROLE", description="the administrators' role")


class EdxSettings(_Settings):
    """The edX API and our account there. The URLs default to production."""

    api_url: Annotated[Url, AfterValidator(_base_url)] = Field(
        "https://api.edx.org/catalog/v1/",
        alias="EDX_API_URL",
        description=f"{_URL_RULE}, a query or a fragment",  # always ends with a slash here
    )
    token_url: Url = Field(
        "https://api.edx.org/oauth2/v1/access_token", alias="EDX_TOKEN_URL", description=_URL_RULE
    )
    client_id: Text = Field(alias="EDX_CLIENT_ID", description="the id of our edX API client")
    client_secret: SecretStr = Field(
        alias="EDX_CLIENT_SECRET", min_length=1, description="the secret of our edX API client"
    )
    catalog_ids: Annotated[tuple[CatalogId, ...], BeforeValidator(_entries)] = Field(
        (),
        alias="EDX_CATALOG_IDS",
        description="catalog ids, whole numbers above 0, separated by commas (none: every catalog edX lists)",
    )
    # Courses from page to page; a request asks for one more. The server has no maximum; at 40 kB a course,
    # 501 stay below the 32 MiB an answer.
    page_size: WholeNumber = Field(
        100, alias="EDX_PAGE_SIZE", ge=1, le=500, description="a whole number of courses from 1 to 500"
    )
    # Requests in flight. More would only meet the rate limit of 200 requests an hour sooner.
    concurrency: WholeNumber = Field(
        4, alias="EDX_CONCURRENCY", ge=1, le=32, description="a whole number of requests from 1 to 32"
    )


class MappingSettings(_Settings):
    """What mapping needs to know besides edX's record."""

    enrollment_url: Annotated[Url, AfterValidator(_enrollment_template)] = Field(
        "https://courses.edx.org/course_modes/choose/{key}/",
        alias="EDX_ENROLLMENT_URL",
        description=f"{_URL_RULE}, with {{key}} where the run key goes and no other braces",
    )
    # Hours of work for one modular credit; NUS counts a 4-MC module as about 120 hours.
    modular_credit_hours: WholeNumber = Field(
        30, alias="MODULAR_CREDIT_HOURS", ge=1, description="a whole number of hours, 1 or more"
    )


class StorageSettings(_Settings):
    """Table Storage, by connection string or, with the app's managed identity, by endpoint."""

    connection_string: Annotated[SecretStr, AfterValidator(_connection_string)] | None = Field(
        None,
        alias="TABLES_CONNECTION_STRING",
        description="a storage connection string with AccountName and AccountKey (or SharedAccessSignature) "
        "and an https table endpoint (http to a loopback address only)",
    )
    endpoint: Url | None = Field(None, alias="TABLES_ENDPOINT", description=_URL_RULE)
    # A table name has at most 63 characters, and the longest of ours is "<prefix>SyncReports".
    prefix: str = Field(
        "EdX",
        alias="TABLES_PREFIX",
        pattern=r"^[A-Za-z][A-Za-z0-9]{0,51}$",
        description="at most 52 letters and digits, a letter first",
    )

    @model_validator(mode="after")
    def _one_way_in(self) -> Self:
        # Raised as it is: pydantic wraps ValueError and AssertionError only.
        if self.connection_string is None and self.endpoint is None:
            raise ConfigurationError(
                "TABLES_CONNECTION_STRING",
                "is missing: expected it or, for managed identity, TABLES_ENDPOINT",
            )
        if self.connection_string is not None and self.endpoint is not None:
            raise ConfigurationError(
                "TABLES_ENDPOINT",
                "must be empty when TABLES_CONNECTION_STRING is set: expected one of the two",
            )
        return self


class SyncSettings(_Settings):
    """When a catalog is fresh, how long a sync may take and how much it may withdraw."""

    # A pull of 4,000 courses is 41 of the 200 requests an hour that edX allows.
    fresh_for_s: WholeNumber = Field(
        900, alias="SYNC_FRESH_FOR_SECONDS", ge=0, description="a whole number of seconds, 0 or more"
    )
    # Of a catalog's runs that are listed and have not ended.
    max_withdraw_percent: WholeNumber = Field(
        20, alias="SYNC_MAX_WITHDRAW_PERCENT", ge=0, le=100, description="a whole number from 0 to 100"
    )
    # For a sync inside an HTTP request, which the platform ends after 230 s; nine minutes are the timer's.
    time_budget_s: WholeNumber = Field(
        200,
        alias="SYNC_TIME_BUDGET_SECONDS",
        ge=1,
        le=540,
        description="a whole number of seconds from 1 to 540",
    )


class ConnectorSettings(_Settings):
    """Everything but access."""

    edx: EdxSettings
    mapping: MappingSettings
    storage: StorageSettings
    sync: SyncSettings


def _names(*groups: type[_Settings]) -> tuple[str, ...]:
    return tuple(field.alias for group in groups for field in group.model_fields.values() if field.alias)


HOST_RESOLVED_NAMES = ("SYNC_SCHEDULE",)
"""Settings of ours that the Functions host resolves in a binding; no code reads them."""

SETTING_NAMES = (
    *_names(EdxSettings, MappingSettings, SyncSettings, StorageSettings, AccessSettings),
    *HOST_RESOLVED_NAMES,
)
"""The names of all settings."""

SettingsGroup = TypeVar("SettingsGroup", bound=_Settings)


def _load(group: type[SettingsGroup], environment: Mapping[str, str]) -> SettingsGroup:
    values = {
        name: value
        for name in _names(group)
        # App settings keep the reference itself when Key Vault cannot be read: as a key it could be guessed.
        if (value := environment.get(name, "").strip()) and not value.startswith("@Microsoft.KeyVault(")
    }
    try:
        return group.model_validate(values)
    except ValidationError as error:
        name = str(error.errors()[0]["loc"][0])
    # Outside of the except block, so that the new error has no context: pydantic's holds the values.
    expected = next(field.description for field in group.model_fields.values() if field.alias == name)
    fault = "is malformed" if name in values else "is missing"
    raise ConfigurationError(name, f"{fault}: expected {expected}")


def with_settings_file(file: Path, environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the environment and, for what it does not set, the values of a local.settings.json, if any.

    Raises:
        ConfigurationError: the file is no local settings; the message names it.
    """
    if not file.is_file():
        return dict(environment)
    with suppress(ValueError, KeyError, TypeError, AttributeError):
        values = json.loads(file.read_text("utf-8-sig"))["Values"].items()
        return {name: str(value) for name, value in values} | dict(environment)
    raise ConfigurationError(f"file {file}", "is malformed: expected JSON with an object named Values")


def access_settings(environment: Mapping[str, str] = os.environ) -> AccessSettings:
    """Read who may call.

    Raises:
        ConfigurationError: a setting of access is missing or malformed; the first one is named.
    """
    return _load(AccessSettings, environment)


def connector_settings(environment: Mapping[str, str] = os.environ) -> ConnectorSettings:
    """Read all settings but those of access.

    Raises:
        ConfigurationError: one of them is missing or malformed; the first one is named.
    """
    return ConnectorSettings(
        edx=_load(EdxSettings, environment),
        mapping=_load(MappingSettings, environment),
        storage=_load(StorageSettings, environment),
        sync=_load(SyncSettings, environment),
    )
