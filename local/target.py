"""Decides whether to use the real edX or the sandbox, and makes the settings for the sandbox."""

from collections.abc import Mapping
from pathlib import Path

from local.azurite import Azurite
from local.sandbox import Sandbox
from local.sandbox.tokens import ROLE
from shared.setting_values import is_loopback
from shared.settings import unknown_settings
from shared.settings_file import with_settings_file

SUBSCRIPTION_KEY = "local-subscription-key"

_EXAMPLE = Path(__file__).parents[1] / "local.settings.example.json"


def is_real_run(settings: Mapping[str, str]) -> bool:
    """Tell whether to use the real edX: the settings name it, and no setting seems to be misspelt.

    A misspelt EDX_API_URL would leave the default, which is edX's production.
    """
    return names_real_edx(settings) and not unknown_settings(settings)


def names_real_edx(settings: Mapping[str, str]) -> bool:
    """Tell whether the settings name the real edX; False when they do not mention edX."""
    url = settings.get("EDX_API_URL") or ("https://api.edx.org" if settings.get("EDX_CLIENT_ID") else "")
    return bool(url) and not is_loopback(url)


def on_sandbox(settings: Mapping[str, str], sandbox: Sandbox, azurite: Azurite) -> dict[str, str]:
    """Return settings that use the local servers; settings for another edX are replaced by the example's."""
    chosen = settings if is_loopback(settings.get("EDX_API_URL", "")) else {}
    return {
        **with_settings_file(_EXAMPLE, {}),
        **chosen,
        **sandbox.settings(),
        "TABLES_CONNECTION_STRING": azurite.connection_string,
        "TABLES_ENDPOINT": "",
        "APIM_SUBSCRIPTION_KEYS": SUBSCRIPTION_KEY,
        "ADMIN_ROLE_CLAIM": "roles",
        "ADMIN_ROLE": ROLE,
    }
