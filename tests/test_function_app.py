"""How the triggers answer an unexpected error; their other answers are in contract/ and worker/."""

import asyncio
import json
import logging

import azure.functions as func
import pytest

import function_app

SECRET = "s3cr3t"
SENTENCE = "The connector failed unexpectedly; its log has the cause. What was stored before is intact."


def test_unexpected_error_is_logged_and_answered_without_its_text(caplog: pytest.LogCaptureFixture) -> None:
    async def fail() -> func.HttpResponse:
        raise ZeroDivisionError(SECRET)

    answered = asyncio.run(function_app._answered(fail))  # no request makes the real ones fail unexpectedly
    assert answered.status_code == 500
    assert json.loads(answered.get_body()) == SENTENCE
    first, second = caplog.records
    assert (first.name, first.levelno) == ("function_app", logging.ERROR)
    assert first.message.startswith("Unexpected ZeroDivisionError\n")
    assert second.message == SENTENCE
    assert SECRET not in caplog.text
