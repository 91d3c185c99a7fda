"""Typed settings; the only module that reads the environment.

The alias is the name of the environment variable, the description says which values are valid. A missing or
malformed setting raises a ConfigurationError that names it and never contains its value.
"""

import os
import re
from collections.abc import Container, Mapping
from difflib import get_close_matches
from typing import Annotated, Self, TypeVar

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

from shared.errors import ConfigurationError
from shared.setting_values import (
    URL_RULE,
    BaseUrl,
    CatalogId,
    ConnectionString,
    EnrollmentTemplate,
    HttpsUrl,
    Issuer,
    NcrontabSchedule,
    Text,
    Url,
    WholeNumber,
    entries,
    is_key_vault_reference,
)

TIME_BUDGET_MAX_S = 220
"""The longest time that a caller waits for a sync: the platform ends a request after 230 s
(https://learn.microsoft.com/azure/azure-functions/functions-scale#timeout)."""


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", validate_by_name=True, hide_input_in_errors=True)


class AccessSettings(_Settings):
    """Access: the APIM subscription keys and the required claims of an administrator's token."""

    subscription_keys: Annotated[tuple[SecretStr, ...], BeforeValidator(entries)] = Field(
        alias="APIM_SUBSCRIPTION_KEYS",
        min_length=1,
        description="one or more subscription keys, separated by commas",
    )
    issuer: Issuer = Field(
        alias="ADMIN_JWT_ISSUER",
        description="the exact `iss` of administrators' tokens, without a placeholder such as {tenantid}",
    )
    audience: Text = Field(alias="ADMIN_JWT_AUDIENCE", description="the `aud` of administrators' tokens")
    jwks_url: Url = Field(alias="ADMIN_JWKS_URL", description=URL_RULE)
    role_claim: Text = Field("roles", alias="ADMIN_ROLE_CLAIM", description="the name of the role claim")
    role: Text = Field("LumiNUS.Admin", alias="ADMIN_ROLE", description="the administrators' role")


class EdxSettings(_Settings):
    """The edX API and our account there. The URLs default to production."""

    api_url: BaseUrl = Field(
        "https://api.edx.org/catalog/v1/",
        alias="EDX_API_URL",
        description=f"{URL_RULE}, a query or a fragment",  # always ends with a slash here
    )
    token_url: Url = Field(
        "https://api.edx.org/oauth2/v1/access_token", alias="EDX_TOKEN_URL", description=URL_RULE
    )
    client_id: Text = Field(alias="EDX_CLIENT_ID", description="the id of our edX API client")
    client_secret: SecretStr = Field(
        alias="EDX_CLIENT_SECRET", min_length=1, description="the secret of our edX API client"
    )
    catalog_ids: Annotated[tuple[CatalogId, ...], BeforeValidator(entries)] = Field(
        (),
        alias="EDX_CATALOG_IDS",
        description="catalog ids, whole numbers above 0, separated by commas (none: every catalog edX lists)",
    )
    # Courses per page; a request asks for one more. The server has no maximum; at 40 kB per course, 501
    # courses stay below the limit of 32 MiB per answer.
    page_size: WholeNumber = Field(
        100, alias="EDX_PAGE_SIZE", ge=1, le=500, description="a whole number of courses from 1 to 500"
    )
    # Requests in flight. More would only reach the rate limit of 200 requests per hour sooner.
    concurrency: WholeNumber = Field(
        4, alias="EDX_CONCURRENCY", ge=1, le=32, description="a whole number of requests from 1 to 32"
    )


class MappingSettings(_Settings):
    """Settings of the mapping."""

    enrollment_url: EnrollmentTemplate = Field(
        "https://courses.edx.org/course_modes/choose/{key}/",
        alias="EDX_ENROLLMENT_URL",
        description=f"{URL_RULE}, with {{key}} where the run key goes and no other braces",
    )
    # Hours of work per modular credit; at NUS a module of 4 MC is about 120 hours.
    modular_credit_hours: WholeNumber = Field(
        30, alias="MODULAR_CREDIT_HOURS", ge=1, description="a whole number of hours, 1 or more"
    )


class StorageSettings(_Settings):
    """Table Storage, by connection string or, with the app's managed identity, by endpoint."""

    connection_string: ConnectionString | None = Field(
        None,
        alias="TABLES_CONNECTION_STRING",
        description="a storage connection string with AccountName and AccountKey (or SharedAccessSignature) "
        "and an https table endpoint (http to a loopback address only)",
    )
    # azure-data-tables refuses a token credential over http, loopback included (ValueError, _base_client.py).
    endpoint: HttpsUrl | None = Field(
        None, alias="TABLES_ENDPOINT", description="an https URL without credentials in it"
    )
    # A table name has at most 63 characters, and the longest of ours is "<prefix>SyncReports".
    prefix: str = Field(
        "EdX",
        alias="TABLES_PREFIX",
        pattern=r"^[A-Za-z][A-Za-z0-9]{0,51}$",
        description="at most 52 letters and digits, a letter first",
    )

    @model_validator(mode="after")
    def _one_way_in(self) -> Self:
        # Not wrapped by pydantic, which wraps only ValueError and AssertionError.
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
    """Limits for fresh and stale answers, for the wait of callers, and for withdrawals."""

    # A pull of 4,000 courses takes 41 of the 200 requests per hour that edX allows.
    fresh_for_s: WholeNumber = Field(
        900, alias="SYNC_FRESH_FOR_SECONDS", description="a whole number of seconds, 0 or more"
    )
    # Of a catalog's runs that are published and have not ended.
    max_withdraw_percent: WholeNumber = Field(
        20, alias="SYNC_MAX_WITHDRAW_PERCENT", le=100, description="a whole number from 0 to 100"
    )
    # The maximum age of an answer after a failed sync, if the request has no stale-if-error.
    stale_if_error_s: WholeNumber = Field(
        86_400,
        alias="SYNC_STALE_IF_ERROR_SECONDS",
        description="a whole number of seconds, 0 or more (0: never answer with stale data)",
    )
    # How long a caller waits for a sync; the sync continues after that.
    time_budget_s: Annotated[
        WholeNumber, Field(ge=1), AfterValidator(lambda value: min(value, TIME_BUDGET_MAX_S))
    ] = Field(200, alias="SYNC_TIME_BUDGET_SECONDS", description="a whole number of seconds, 1 or more")


class TimerSettings(_Settings):
    """The schedule of the timer, for the command line; the Functions host reads it from the binding."""

    schedule: NcrontabSchedule = Field(
        alias="SYNC_SCHEDULE",
        description="an NCRONTAB schedule in UTC, such as 0 7 * * * * (seven minutes past each hour)",
    )


class ConnectorSettings(_Settings):
    """All settings except those of access and of the timer."""

    edx: EdxSettings
    mapping: MappingSettings
    storage: StorageSettings
    sync: SyncSettings


def _names(*groups: type[_Settings]) -> tuple[str, ...]:
    return tuple(field.alias for group in groups for field in group.model_fields.values() if field.alias)


SETTING_NAMES = _names(
    EdxSettings, MappingSettings, SyncSettings, TimerSettings, StorageSettings, AccessSettings
)
"""The names of all settings."""

_PREFIXES = ("EDX_", "SYNC_", "TABLES_", "APIM_", "ADMIN_", "MODULAR_")
"""Prefixes of our settings; no setting of the platform or of azd in a deployed app begins with one."""

SettingsGroup = TypeVar("SettingsGroup", bound=_Settings)


def access_settings(environment: Mapping[str, str] = os.environ) -> AccessSettings:
    """Read the settings of access.

    Raises:
        ConfigurationError: a setting of access is missing or malformed; the first one is named.
    """
    return load(AccessSettings, environment)


def connector_settings(environment: Mapping[str, str] = os.environ) -> ConnectorSettings:
    """Read all settings except those of access and of the timer.

    Raises:
        ConfigurationError: one of them is missing or malformed; the first one is named.
    """
    return ConnectorSettings(
        edx=load(EdxSettings, environment),
        mapping=load(MappingSettings, environment),
        storage=load(StorageSettings, environment),
        sync=load(SyncSettings, environment),
    )


def load(group: type[SettingsGroup], environment: Mapping[str, str] = os.environ) -> SettingsGroup:
    """Read one group of settings.

    Raises:
        ConfigurationError: one of them is missing or malformed; the first one is named.
    """
    settings, problems = _read(group, environment)
    if settings is None:
        raise problems[0]
    return settings


def problems_of(
    group: type[SettingsGroup], environment: Mapping[str, str] = os.environ
) -> list[ConfigurationError]:
    """Return an error for each missing or malformed setting of a group, in the order of the settings."""
    return _read(group, environment)[1]


def setting_warnings(environment: Mapping[str, str] = os.environ) -> list[str]:
    """Return warnings about settings that are probably a mistake, one sentence each."""
    found = unknown_settings(environment)
    budget = environment.get("SYNC_TIME_BUDGET_SECONDS", "").strip()
    if re.fullmatch("[0-9]{1,9}", budget) and int(budget) > TIME_BUDGET_MAX_S:
        found.append(
            f"SYNC_TIME_BUDGET_SECONDS is more than {TIME_BUDGET_MAX_S}, so {TIME_BUDGET_MAX_S} is used: "
            "the platform ends a request after 230 s"
        )
    keys = [part for part in environment.get("APIM_SUBSCRIPTION_KEYS", "").split(",") if part.strip()]
    if any(map(is_key_vault_reference, keys)) and not all(map(is_key_vault_reference, keys)):
        found.append(
            "APIM_SUBSCRIPTION_KEYS has an entry that is a Key Vault reference, which is ignored: "
            "the platform resolves a reference only when it is the whole value"
        )
    return found


def unknown_settings(environment: Mapping[str, str] = os.environ) -> list[str]:
    """Return a sentence for each non-empty variable that looks like one of our settings and is unknown."""
    unknown = sorted(
        name
        for name, value in environment.items()
        if name.upper().startswith(_PREFIXES) and name not in SETTING_NAMES and value.strip()
    )
    sentences = []
    for name in unknown:
        nearest = get_close_matches(name.upper(), SETTING_NAMES, cutoff=0.75)
        sentences.append(f"{name} is not a setting" + (f"; did you mean {nearest[0]}?" if nearest else ""))
    return sentences


def _read(
    group: type[SettingsGroup], environment: Mapping[str, str]
) -> tuple[SettingsGroup | None, list[ConfigurationError]]:
    """Return a group of settings, or the errors in it."""
    given = {name: value for name in _names(group) if (value := environment.get(name, "").strip())}
    unresolved = {name for name, value in given.items() if is_key_vault_reference(value)}
    faulty = set(unresolved)
    settings = conflict = None
    try:
        settings = group.model_validate({name: given[name] for name in given.keys() - unresolved})
    except ValidationError as error:
        faulty |= {str(each["loc"][0]) for each in error.errors()}
    except ConfigurationError as error:  # a group's own rule about several of its settings
        conflict = error
    # Outside the except block, so that no error has a context: pydantic's error contains the values.
    problems = [
        ConfigurationError(name, f"{_fault(name, given, unresolved)} expected {field.description}")
        for field in group.model_fields.values()
        if (name := field.alias or "") in faulty
    ]
    if conflict and not problems:
        problems.append(conflict)
    return None if problems else settings, problems


def _fault(name: str, given: Container[str], unresolved: Container[str]) -> str:
    if name in unresolved:
        return "is missing: its Key Vault reference could not be resolved;"
    return "is malformed:" if name in given else "is missing:"
