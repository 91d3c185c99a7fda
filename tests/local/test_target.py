"""The choice between the real edX and the sandbox."""

import pytest

from local.target import is_real_run

SANDBOX = "http://127.0.0.1:8400/catalog/v1/"
EDX = "https://api.edx.org/catalog/v1/"


@pytest.mark.parametrize(
    ("settings", "real"),
    [
        ({}, False),
        ({"EDX_API_URL": SANDBOX, "EDX_CLIENT_ID": "sandbox-client"}, False),
        ({"EDX_API_URL": EDX}, True),
        ({"EDX_CLIENT_ID": "client"}, True),  # then EDX_API_URL has its default, which is production
        ({"EDX_CLIENT_ID": "client", "SYNC_SCHEDULE": "0 7 * * * *", "PATH": "/bin"}, True),
        ({"EDX_CLIENT_ID": "client", "EDX_API_ULR": SANDBOX}, False),
        ({"EDX_API_URL": EDX, "SYNC_FRESH_FOR": "900"}, False),
    ],
)
def test_the_real_edx_is_used_when_it_is_named_and_no_setting_is_misspelt(
    settings: dict[str, str], *, real: bool
) -> None:
    assert is_real_run(settings) is real
