"""Azurite's installation and the folders that keep its data."""

from pathlib import Path

import pytest

from local.azurite import InstallFailed, ensure_installed, own_folder


def test_installation_fails_with_one_sentence_when_npm_does(tmp_path: Path) -> None:
    (tmp_path / "package-lock.json").write_text("{}")

    with pytest.raises(InstallFailed, match=r"^npm could not install Azurite \(exit code 1; .*once\.$"):
        ensure_installed(tmp_path, npm=["/bin/false"])
    assert not (tmp_path / "node_modules").exists()


def test_nothing_is_installed_when_the_lock_file_is_unchanged(tmp_path: Path) -> None:
    (tmp_path / "node_modules").mkdir()
    for name in ("package-lock.json", "node_modules/.installed-lock.json"):
        (tmp_path / name).write_text("{}")

    ensure_installed(tmp_path, npm=["/bin/false"])


def test_each_process_has_its_own_folder(tmp_path: Path) -> None:
    preferred = tmp_path / "data" / "start"
    with own_folder(preferred) as first, own_folder(preferred) as second, own_folder(preferred) as third:
        assert (first, second, third) == (
            preferred,
            tmp_path / "data" / "start-2",
            tmp_path / "data" / "start-3",
        )
        assert third.is_dir()
    with own_folder(preferred) as again:  # free again
        assert again == preferred
