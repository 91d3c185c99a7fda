"""Loads the functions of an app from its decorators, and calls them."""

import importlib.util
import re
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from inspect import signature
from pathlib import Path
from typing import Any, NamedTuple

from shared import ncrontab

_thread_local_storage = threading.local()  # one for all invocations, as in the worker


class Context(NamedTuple):
    """The `context` argument of functions, with the parts that are meaningful on one machine."""

    invocation_id: str
    function_name: str
    thread_local_storage: threading.local = _thread_local_storage


@dataclass(frozen=True)
class Function:
    """A function of the app, as its decorators describe it."""

    name: str
    call: Callable[..., Any]
    argument: str
    route: str | None = None
    methods: frozenset[str] = frozenset()  # empty: every method
    schedule: str | None = None

    def __call__(self, argument: object, context: Context) -> Any:
        """Call it as the worker does; an async one returns a coroutine."""
        return self.call(
            **{self.argument: argument},
            **({"context": context} if "context" in signature(self.call).parameters else {}),
        )

    @property
    def description(self) -> str:
        """The line that the host prints about the function when it starts."""
        if self.schedule:
            return f"{self.name}: timerTrigger {self.schedule}"
        return f"{self.name}: [{','.join(sorted(self.methods))}] /{self.route}"


def load_functions(directory: Path) -> list[Function]:
    """Import function_app.py of a directory again and return the functions of its `app`.

    %NAME% in schedules is not replaced: see `resolved`.
    """
    spec = importlib.util.spec_from_file_location("function_app", directory / "function_app.py")
    if spec is None or spec.loader is None:
        raise ImportError(f"There is no function_app.py in {directory}; start the host in the app's folder")
    module = importlib.util.module_from_spec(spec)
    sys.modules["function_app"] = module
    spec.loader.exec_module(module)
    return [_described(function) for function in module.app.get_functions()]


def _described(function: Any) -> Function:
    trigger = function.get_trigger().get_dict_repr()
    described = Function(function.get_function_name(), function.get_user_function(), trigger["name"])
    if trigger["type"] == "timerTrigger":
        return replace(described, schedule=trigger["schedule"])
    route = str(trigger.get("route", described.name))
    if trigger["type"] != "httpTrigger" or "{" in route:
        raise ValueError(f"The replacement host cannot serve {described.name}: {trigger['type']} {route}")
    return replace(
        described, route=route, methods=frozenset(method.value for method in trigger.get("methods", ()))
    )


def resolved(function: Function, environment: Mapping[str, str]) -> Function:
    """Return a function with its schedule's %NAME% replaced by the setting of that name.

    Raises:
        ValueError: a setting is missing, or Azure Functions would not accept the schedule.
    """
    if function.schedule is None:
        return function
    schedule = _resolve(function.schedule, environment)
    try:
        ncrontab.parse(schedule)
    except ValueError as error:
        raise ValueError(f"the schedule {schedule!r} is not NCRONTAB: {error}") from None
    return replace(function, schedule=schedule)


def _resolve(text: str, environment: Mapping[str, str]) -> str:
    for name in re.findall("%([^%]+)%", text):
        if name not in environment:
            raise ValueError(f"the setting {name} is missing")
        text = text.replace(f"%{name}%", environment[name])
    return text
