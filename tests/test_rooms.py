"""Each package imports only from packages below it, as docs/architecture.md shows."""

import ast
from collections.abc import Iterator
from pathlib import Path

_SHARED = Path(__file__).parents[1] / "shared"

LAYERS = [
    {"errors", "deadline", "ncrontab", "network", "version"},
    {"domain"},
    {"setting_values"},
    {"settings", "settings_file"},
    {"edx", "storage"},
    {"sync"},
    {"serving", "api"},
    {"wiring"},
    {"cli"},
    {"__main__"},
]
"""From the bottom up; packages of one layer do not import each other."""


def _imports(file: Path) -> Iterator[tuple[str, ...]]:
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "shared":
            module = tuple(node.module.split(".")[1:])
            yield from ([(*module, alias.name) for alias in node.names] if not module else [module])
        elif isinstance(node, ast.Import):
            yield from (tuple(a.name.split(".")[1:]) for a in node.names if a.name.startswith("shared."))


def test_each_package_imports_only_from_packages_below_it() -> None:
    level = {room: number for number, rooms in enumerate(LAYERS) for room in rooms}
    upward = []
    for file in sorted(_SHARED.rglob("*.py")):
        room = file.relative_to(_SHARED).with_suffix("").parts[0]
        if room == "__init__":
            continue
        upward += [
            f"{file.relative_to(_SHARED)} imports {'.'.join(module)}"
            for module in _imports(file)
            if module[0] != room and level[module[0]] >= level[room]
        ]
    assert upward == []


def test_no_module_is_too_long() -> None:
    lines = {file: len(file.read_text("utf-8").splitlines()) for file in _SHARED.rglob("*.py")}
    assert {str(file.relative_to(_SHARED)): count for file, count in lines.items() if count > 320} == {}
