"""Calls the functions of function_app.py in this process, without a host.

A host would add the same time to everything that is compared, so it is left out.
"""

import asyncio
import os
import threading
from types import SimpleNamespace
from typing import Any

import azure.functions as func
from azure.functions.timer import TimerRequest

import function_app

TOKEN_SETTING = "BENCH_ADMIN_TOKEN"  # noqa: S105 - the name of a variable
KEY = "bench-subscription-key"


class App:
    """The app of function_app.py on the settings of the environment."""

    def __init__(self) -> None:
        self._functions: dict[str, Any] = {
            str(function.get_function_name()): function.get_user_function()
            for function in function_app.app.get_functions()
        }
        self._context = SimpleNamespace(invocation_id="bench", thread_local_storage=threading.local())
        self._loop = asyncio.new_event_loop()

    def sync(self) -> None:
        """Fire the timer."""
        self._loop.run_until_complete(self._functions["sync_course_runs"](TimerRequest(), self._context))

    def ask(self, **headers: str) -> func.HttpResponse:
        """Request the catalogue as an administrator; stored data is fresh, so that edX is not called."""
        request = func.HttpRequest(
            "GET",
            "http://localhost/ExternalLinks/edXCourseruns",
            headers={
                "ocp-apim-subscription-key": KEY,
                "authorization": f"Bearer {os.environ[TOKEN_SETTING]}",
                "accept-encoding": "gzip",
                **{name.replace("_", "-"): value for name, value in headers.items()},
            },
            params={},
            body=b"",
        )
        answer = self._loop.run_until_complete(self._functions["course_runs"](request, self._context))
        assert isinstance(answer, func.HttpResponse)
        return answer
