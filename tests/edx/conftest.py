from collections.abc import Iterator

import pytest
import requests_mock
from requests_mock import Mocker

from shared.edx.client import EdxClient, EdxSession
from tests.edx.pretend import TOKEN, FakeTime, make_client


@pytest.fixture
def fake_time() -> FakeTime:
    return FakeTime()


@pytest.fixture
def client(fake_time: FakeTime) -> EdxClient:
    return make_client(fake_time)


@pytest.fixture
def edx(client: EdxClient, fake_time: FakeTime) -> Iterator[EdxSession]:
    with client.session(fake_time.left(100)) as session:
        yield session


@pytest.fixture
def web() -> Iterator[Mocker]:
    with requests_mock.Mocker() as mocker:
        mocker.post(TOKEN, json={"access_token": "t1", "expires_in": 3600})
        yield mocker
