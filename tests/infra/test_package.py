"""What a deployment ships, by the rules of .funcignore, is what function_app.py imports and nothing else."""

import ast
import os
from collections.abc import Iterator
from pathlib import Path

from pathspec import GitIgnoreSpec

ROOT = Path(__file__).parents[2]


def shipped() -> set[str]:
    ignored = GitIgnoreSpec.from_lines((ROOT / ".funcignore").read_text().splitlines())
    files = set()
    for folder, subfolders, names in os.walk(ROOT):
        prefix = Path(folder).relative_to(ROOT)
        subfolders[:] = [name for name in subfolders if not ignored.match_file(f"{prefix / name}/")]
        files |= {str(prefix / name) for name in names if not ignored.match_file(str(prefix / name))}
    return files


def modules_imported_by(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def needed() -> set[str]:
    found: set[str] = set()
    todo = ["function_app.py"]
    while todo:
        path = todo.pop()
        found.add(path)
        candidates = (f"{module.replace('.', '/')}.py" for module in modules_imported_by(ROOT / path))
        todo += [name for name in candidates if (ROOT / name).is_file() and name not in found]
    packages = {folder for path in found for folder in Path(path).parents if folder != Path()}
    return found | {f"{folder}/__init__.py" for folder in packages}


def test_package_contains_only_the_app() -> None:
    assert shipped() == needed() | {"host.json", "requirements.txt"}


def test_app_modules_are_found_when_imports_are_followed() -> None:
    assert {"function_app.py", "shared/wiring.py", "shared/errors.py", "shared/storage/store.py"} <= needed()
    assert "shared/__main__.py" not in needed()


def test_app_does_not_import_the_command_line() -> None:
    imported = {module.split(".")[0] for path in needed() for module in modules_imported_by(ROOT / path)}
    assert imported & {"typer", "rich"} == set()
    assert not any(path.startswith("shared/cli/") for path in needed())
