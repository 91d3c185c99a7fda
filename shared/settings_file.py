"""Reads local.settings.json: settings for this machine, in the format of Azure Functions Core Tools."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

from shared.errors import ConfigurationError


def with_settings_file(file: Path, environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the environment, with the values of a local.settings.json for names that it does not set.

    A name that is set to "" in the environment is not taken from the file. The file may be missing.

    Raises:
        ConfigurationError: the file is malformed; the message names it.
    """
    if not file.is_file():
        return dict(environment)
    return _values(file) | dict(environment)


def _values(file: Path) -> dict[str, str]:
    problem = ""
    document: object = None
    try:
        document = json.loads(file.read_text("utf-8-sig"))
    except json.JSONDecodeError as error:
        problem = f"is malformed: it is not JSON at line {error.lineno}, column {error.colno}"
    except ValueError:
        problem = "is malformed: expected UTF-8 text"
    except OSError as error:
        problem = f"cannot be read: {error.strerror}"
    # Outside the except block, so that no error has a context: the JSON error contains the whole file.
    if problem:
        raise _fault(file, problem)
    values = document.get("Values") if isinstance(document, dict) else None
    if not isinstance(document, dict) or not isinstance(values, dict):
        raise _fault(file, "is malformed: expected JSON with an object named Values")
    if document.get("IsEncrypted"):
        raise _fault(
            file,
            "is encrypted (IsEncrypted), which is not supported: decrypt it with `func settings decrypt`, "
            'or set "IsEncrypted": false and put in the plain values',
        )
    nested = [name for name, value in values.items() if isinstance(value, (dict, list))]
    if nested:
        raise _fault(file, f"is malformed: expected text as the value of {nested[0]}")
    return {name: _text(value) for name, value in values.items() if value is not None}


def _text(value: object) -> str:
    """Return a value as in JSON: true, 4."""
    return value if isinstance(value, str) else json.dumps(value)


def _fault(file: Path, problem: str) -> ConfigurationError:
    return ConfigurationError(f"file {file}", problem)
