"""Azure, simulated by commands on the PATH."""

from pathlib import Path

import pytest

from tests.infra.azure import Azure, make_azure


@pytest.fixture
def azure(tmp_path: Path) -> Azure:
    return make_azure(tmp_path)
