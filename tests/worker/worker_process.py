"""The worker's side of the harness: azure-functions-runtime with one app, spoken to over a pipe.

It replaces the proxy in front of that package, whose gRPC messages are generated from FunctionRpc.proto and
are on no package index: those that the runtime uses stand here under the names and types of that file, and
this module is the `protos` that the runtime is handed. They are strict, as protobuf is: a header value that
is no string fails the invocation here as it does in Azure.
"""

from __future__ import annotations

import asyncio
import builtins
import json
import logging
import os
import sys
from dataclasses import field
from types import SimpleNamespace
from typing import Any, ClassVar, TextIO
from uuid import uuid4

import azure_functions_runtime as runtime
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
    """Wrap one message as the proxy hands it to the runtime."""
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


async def _invoke(call: dict[str, Any], data: TypedData) -> dict[str, object]:
    request = SimpleNamespace(
        invocation_id=str(uuid4()),
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


async def _serve(app_directory: str, answers: TextIO) -> None:
    """Index the app, then run each call that stdin brings, as many at once as come, until it ends."""

    def say(content: dict[str, object]) -> None:
        answers.write(json.dumps(content) + "\n")
        answers.flush()

    async def answer(call: dict[str, Any]) -> None:
        if "http" in call:
            body = TypedData(bytes=call["body"].encode("latin-1") or None)
            data = TypedData(http=RpcHttp(**call["http"], body=body))
        else:
            data = TypedData(json=call["json"])
        say({"call": call["call"], **await _invoke(call, data)})

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
    with os.fdopen(os.dup(sys.stdout.fileno()), "w") as answers:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what the app prints is no answer
        asyncio.run(_serve(sys.argv[1], answers))
