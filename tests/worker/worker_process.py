"""The worker process of the harness: azure-functions-runtime with one app, controlled over a pipe.

It replaces the proxy in front of that package. The proxy's gRPC messages are generated from FunctionRpc.proto
and are on no package index, so this module defines those that the runtime uses, with that file's names and
types, and is passed to the runtime as its `protos`. They check types like protobuf: a header value that is
not a string fails the invocation here as in Azure.
"""

from __future__ import annotations

import asyncio
import builtins
import json
import logging
import os
import sys
from collections.abc import Coroutine
from dataclasses import field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, TextIO
from uuid import uuid4

import azure_functions_runtime as runtime
from azure_functions_runtime.bindings.context import _invocation_id_local
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

STRICT = ConfigDict(strict=True, extra="forbid")


@dataclass(config=STRICT, kw_only=True)
class RpcException:
    message: str = ""
    stack_trace: str = ""


@dataclass(config=STRICT, kw_only=True)
class StatusResult:
    Failure: ClassVar = 0
    Success: ClassVar = 1
    status: int
    exception: RpcException | None = None


@dataclass(config=STRICT, kw_only=True)
class WorkerMetadata:
    runtime_name: str
    runtime_version: str
    worker_version: str
    worker_bitness: str
    custom_properties: dict[str, str]


@dataclass(config=STRICT, kw_only=True)
class WorkerInitResponse:
    capabilities: dict[str, str]
    worker_metadata: WorkerMetadata
    result: StatusResult


@dataclass(config=STRICT, kw_only=True)
class BindingInfo:
    undefined: ClassVar = 0
    out: ClassVar = 1
    inout: ClassVar = 2
    type: str
    data_type: int | None
    direction: int


@dataclass(config=STRICT, kw_only=True)
class RpcFunctionMetadata:
    name: str
    function_id: str
    managed_dependency_enabled: bool
    directory: str
    script_file: str
    entry_point: str
    is_proxy: bool
    language: str
    bindings: dict[str, BindingInfo]
    raw_bindings: list[str]
    retry_options: None
    properties: dict[str, str]


@dataclass(config=STRICT, kw_only=True)
class FunctionMetadataResponse:
    use_default_metadata_indexing: bool
    function_metadata_results: list[RpcFunctionMetadata]
    result: StatusResult


@dataclass(config=STRICT, kw_only=True)
class TypedData:
    http: RpcHttp | None = None
    json: str | None = None
    string: str | None = None
    bytes: builtins.bytes | None = None

    def WhichOneof(self, _oneof: str) -> str | None:  # noqa: N802 - protobuf's name
        return next((name for name, value in vars(self).items() if value is not None), None)


@dataclass(config=STRICT, kw_only=True)
class RpcHttp:
    method: str = ""
    url: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    query: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    body: TypedData = field(default_factory=TypedData)
    status_code: str = ""
    cookies: list[object] | None = None
    enable_content_negotiation: bool = False


@dataclass(config=STRICT, kw_only=True)
class ParameterBinding:
    name: str
    data: TypedData

    def WhichOneof(self, _oneof: str) -> str:  # noqa: N802 - protobuf's name
        return "data"


@dataclass(config=STRICT, kw_only=True)
class InvocationResponse:
    invocation_id: str
    result: StatusResult
    return_value: TypedData | None = None
    output_data: list[ParameterBinding] = field(default_factory=list)


def _request(**content: object) -> SimpleNamespace:
    """Wrap one message in the form that the proxy passes to the runtime."""
    properties = {"host": "127.0.0.1", "protos": sys.modules[__name__]}
    return SimpleNamespace(request=SimpleNamespace(**content), properties=properties)


async def _index(app_directory: str) -> dict[str, object]:
    init_request = SimpleNamespace(capabilities={}, function_app_directory=app_directory)
    init = await runtime.worker_init_request(_request(worker_init_request=init_request))
    if init.result.status != StatusResult.Success:
        raise SystemExit(f"The app cannot be indexed: {init.result.exception.stack_trace}")
    metadata = await runtime.functions_metadata_request(_request())
    return {
        function.name: {
            "id": function.function_id,
            "bindings": [json.loads(raw) for raw in function.raw_bindings],
        }
        for function in metadata.function_metadata_results
    }


class ContextEnabledTask(asyncio.Task[Any]):
    """A task that knows its invocation, and whose children do: the worker runs the app in such tasks."""

    invocation_id: str | None = None

    def __init__(self, coro: Coroutine[Any, Any, Any], loop: asyncio.AbstractEventLoop, **more: Any) -> None:
        super().__init__(coro, loop=loop, **more)
        parent = asyncio.current_task(loop)
        self.invocation_id = getattr(parent, "invocation_id", None)


class Routing(logging.Handler):
    """Records to which invocation each log record belongs, by each kind of worker.

    The kinds are those of Azure/azure-functions-python-worker: `task` is that of Python 3.13 (proxy_worker,
    dispatcher.py: the task, then the runtime's context variable), `thread` that below 3.13
    (azure_functions_worker, dispatcher.py: the task, then thread_local_storage), `latest` an older one of
    3.13, which takes the latest invocation of all. The host drops a record that names no live invocation.
    """

    def __init__(self, file: TextIO) -> None:
        super().__init__()
        self.live: set[str] = set()
        self.latest: str | None = None
        self._file = file

    def emit(self, record: logging.LogRecord) -> None:
        if not record.name.startswith(("shared", "function_app")):
            return
        try:
            of_task = getattr(asyncio.current_task(), "invocation_id", None)
        except RuntimeError:  # no event loop in this thread
            of_task = None
        invocations = {
            "task": of_task or runtime.invocation_id_cv.get(),
            "thread": of_task or getattr(_invocation_id_local, "invocation_id", None),
            "latest": self.latest,
        }
        line = {
            "message": record.getMessage(),
            "level": record.levelname,
            "invocations": invocations,
            "arrives": {kind: each in self.live for kind, each in invocations.items()},
        }
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()


async def _invoke(call: dict[str, Any], data: TypedData, routing: Routing) -> dict[str, object]:
    invocation_id = str(uuid4())
    task = asyncio.current_task()
    assert isinstance(task, ContextEnabledTask)
    task.invocation_id = routing.latest = invocation_id
    routing.live.add(invocation_id)
    try:
        return {"invocation": invocation_id, **await _result(call, data, invocation_id)}
    finally:
        routing.live.discard(invocation_id)


async def _result(call: dict[str, Any], data: TypedData, invocation_id: str) -> dict[str, object]:
    request = SimpleNamespace(
        invocation_id=invocation_id,
        function_id=call["function_id"],
        input_data=[ParameterBinding(name=call["trigger"], data=data)],
        trigger_metadata={},
        trace_context=SimpleNamespace(trace_parent="", trace_state="", attributes={}),
        retry_context=SimpleNamespace(retry_count=0, max_retry_count=0, exception=None),
    )
    response = await runtime.invocation_request(_request(invocation_request=request))
    if response.result.status != StatusResult.Success:
        failure = response.result.exception
        return {"failure": f"{failure.message}\n{failure.stack_trace}"}
    if response.return_value is None:
        return {}
    http = response.return_value.http
    return {
        "status": int(http.status_code),
        "headers": http.headers,
        "body": http.body.bytes.decode("latin-1"),
    }


async def _serve(app_directory: str, answers: TextIO, routing: Routing) -> None:
    """Index the app, then run each call from stdin concurrently, until stdin ends."""

    def say(content: dict[str, object]) -> None:
        answers.write(json.dumps(content) + "\n")
        answers.flush()

    async def answer(call: dict[str, Any]) -> None:
        if "http" in call:
            body = TypedData(bytes=call["body"].encode("latin-1") or None)
            data = TypedData(http=RpcHttp(**call["http"], body=body))
        else:
            data = TypedData(json=call["json"])
        say({"call": call["call"], **await _invoke(call, data, routing)})

    loop = asyncio.get_running_loop()
    loop.set_task_factory(lambda loop, coro, **more: ContextEnabledTask(coro, loop=loop, **more))
    runtime.start_threadpool_executor()
    say(await _index(app_directory))
    calls = asyncio.StreamReader(limit=2**24)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(calls), sys.stdin)
    async with asyncio.TaskGroup() as running:
        async for line in calls:
            running.create_task(answer(json.loads(line)))


if __name__ == "__main__":
    logging.basicConfig(level=logging.DEBUG)
    sys.path[0] = sys.argv[1]
    with os.fdopen(os.dup(sys.stdout.fileno()), "w") as answers, Path(sys.argv[2]).open("a") as records:
        routing = Routing(records)
        logging.getLogger().addHandler(routing)
        os.dup2(
            sys.stderr.fileno(), sys.stdout.fileno()
        )  # text that the app prints must not be read as an answer
        asyncio.run(_serve(sys.argv[1], answers, routing))
