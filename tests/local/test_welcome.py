"""What `make start` prints and writes for other terminals."""

import subprocess
from pathlib import Path

from local.welcome import welcome, write_settings


def test_shell_file_has_only_our_settings_unchanged(tmp_path: Path) -> None:
    file = tmp_path / "settings.sh"
    odd = 'a\'b "c" $HOME `x` \\ ü'
    write_settings(file, {"EDX_CLIENT_SECRET": odd, "TABLES_ENDPOINT": "", "PATH": "/nowhere"})

    shown = subprocess.run(  # noqa: S603  our own file
        [
            "/bin/sh",
            "-c",
            f'TABLES_ENDPOINT=before; . {file}; printf %s "$EDX_CLIENT_SECRET|$TABLES_ENDPOINT"',
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert shown == f"{odd}|"
    assert "PATH" not in file.read_text()
    assert file.stat().st_mode & 0o077 == 0


def test_each_command_to_paste_is_one_line(tmp_path: Path) -> None:
    headers = {"Ocp-Apim-Subscription-Key": "key", "Authorization": "Bearer token"}
    url = "http://127.0.0.1:7071/ExternalLinks/edXCourseruns"
    lines = welcome(url, headers, "http://127.0.0.1:8400/", tmp_path / "settings.sh").splitlines()

    curl = "curl -i -H 'Ocp-Apim-Subscription-Key: key' -H 'Authorization: Bearer token' " + url
    assert curl in lines
    assert "curl -X DELETE http://127.0.0.1:8400/sandbox/knobs" in lines
    (operate,) = [line for line in lines if line.endswith(" -m shared check)")]
    assert f" && . {tmp_path}/settings.sh && " in operate
