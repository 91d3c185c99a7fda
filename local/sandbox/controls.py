"""The sandbox's controls over HTTP, for other processes: knobs, rules, catalogs, log, tokens."""

import json
import re
from collections.abc import Callable, Mapping
from itertools import count
from typing import Any, Protocol
from urllib.parse import parse_qsl

from local.sandbox import faults
from local.sandbox.catalogs import Catalog
from local.sandbox.faults import Action, Rule
from local.sandbox.http import Reply, Request, json_reply, text_reply
from local.sandbox.sample import make_course

CONTROLS = ("/sandbox/", "/mint")
"""The beginning of the path of every control."""

KNOBS: Mapping[str, str] = {
    "latency_s": "the minimum time of every edX request, in seconds",
    "expires_in": "lifetime in seconds that a token answer announces",
    "token_valid_s": "the real lifetime of a token in seconds; null: the announced one",
    "requests_per_hour": "edX's rate limit (the real one is 200), counted while it is set; null: no limit",
    "client_id": "the one client that gets tokens,",
    "client_secret": "with this secret",
}

COMMANDS: Mapping[str, str] = {
    "expire_tokens": "expire every token that was issued so far",
    "rotate_key": "sign administrators' tokens with a new key, and list only that",
    "forget_requests": "empty the log of requests",
    "clear_rules": "remove all rules first",
}

CHANGES: Mapping[str, str] = {
    "add": "[courses] to add at the end",
    "remove": "[course keys] to remove",
    "remove_runs": "[run keys] to remove; their courses stay",
    "alter_runs": "{run key: {field: value}} to change",
    "swap": "number of courses to remove at the beginning; as many new ones are added at the end",
    "list_twice": "[course keys] to list a second time",
    "expire_seats": "[run keys] whose seats get an upgrade deadline in the past",
    "unrenderable": "[course keys]: every page with one of them is a 500",
    "max_limit": "the maximum number of courses per page; null: no maximum",
    "viewers": "[users] who may see the catalog; ours is sandbox-user, others get 403",
    "warm": "courses per page: build all pages of this size now, so that a benchmark does not wait",
}

ACTIONS: Mapping[str, Callable[..., Action]] = {
    factory.__name__: factory
    for factory in (
        faults.answer,
        faults.throttle,
        faults.gateway,
        faults.redirect,
        faults.slow,
        faults.refuse,
        faults.reset,
        faults.cut,
        faults.short,
        faults.broken_gzip,
        faults.early_hints,
        faults.trickle,
        faults.huge,
        faults.envelope,
        faults.without,
        faults.no_results,
        faults.repeat,
        faults.stuck,
        faults.keyless,
        faults.long_number,
        faults.change,
    )
}
"""The actions that rules can use, by name."""

_joined = count(1)  # numbers for the keys of courses that a swap adds


class Controlled(Protocol):
    """The parts of a sandbox that the controls use."""

    catalogs: dict[int, Catalog]
    rules: list[Rule]

    @property
    def requests(self) -> list[Request]: ...
    @property
    def max_in_flight(self) -> int: ...
    def mint(self, **claims: Any) -> str: ...
    def clear(self) -> None: ...


def control(sandbox: Controlled, request: Request) -> Reply:
    """Answer a control request; a malformed one is 400."""
    routes: Mapping[str, Callable[..., Reply]] = {
        "GET /sandbox/knobs": lambda *_: _knobs(sandbox),
        "POST /sandbox/knobs": _turn,
        "DELETE /sandbox/knobs": _clear,
        "GET /sandbox/requests": _log,
        "POST /mint": _mint,
    }
    try:
        if answer := routes.get(f"{request.method} {request.path}"):
            return answer(sandbox, _sent(request))
        prefix, _, catalog_id = request.path.rpartition("/")
        if (request.method, prefix) == ("POST", "/sandbox/catalogs") and catalog_id.isdecimal():
            return change(sandbox.catalogs[int(catalog_id)], _sent(request))
    except (AttributeError, KeyError, TypeError, ValueError, re.error) as error:
        return json_reply({"detail": repr(error)}, 400)
    return json_reply({"detail": "Not found."}, 404)


def change(catalog: Catalog, changes: Mapping[str, Any]) -> Reply:
    """Apply changes (see CHANGES) to a catalog."""
    if unknown := changes.keys() - CHANGES.keys():
        raise ValueError(f"no such change: {', '.join(sorted(unknown))}")
    catalog.remove(*changes.get("remove", []))
    catalog.add(*changes.get("add", []))
    for run_key in changes.get("remove_runs", []):
        catalog.remove_run(run_key)
    for run_key, fields in changes.get("alter_runs", {}).items():
        catalog.alter_run(run_key, **fields)
    for run_key in changes.get("expire_seats", []):
        catalog.expire_seats(run_key)
    for course_key in changes.get("list_twice", []):
        catalog.list_twice(course_key)
    if swapped := changes.get("swap"):
        catalog.remove(*catalog.keys[:swapped])
        catalog.add(*(make_course(f"JoinedX+{next(_joined)}x") for _ in range(swapped)))
    if missing := set(changes.get("unrenderable", [])) - set(catalog.keys):
        raise KeyError(*missing)
    for name in {"unrenderable", "max_limit", "viewers"} & changes.keys():
        setattr(catalog, name, changes[name])
    if limit := changes.get("warm"):
        catalog.warm(limit)
    return json_reply(catalog.described())


def _knobs(sandbox: Controlled) -> Reply:
    rules = [
        {"path": rule.path, "action": rule.action.__qualname__.partition(".")[0], "fired": rule.fired}
        for rule in sandbox.rules
    ]
    return json_reply({**{name: getattr(sandbox, name) for name in KNOBS}, "rules": rules})


def _turn(sandbox: Controlled, knobs: dict[str, Any]) -> Reply:
    """Set all knobs or, if one is wrong, none."""
    rules = [
        Rule(rule.pop("path"), _action(rule.pop("action"), rule.pop("with", {})), **rule)
        for rule in knobs.pop("rules", [])
    ]
    if unknown := knobs.keys() - KNOBS.keys() - COMMANDS.keys():
        return json_reply({"detail": f"No such knob: {', '.join(sorted(unknown))}"}, 400)
    if knobs.pop("clear_rules", False):
        sandbox.rules.clear()
    sandbox.rules.extend(rules)
    for name, value in knobs.items():
        if name in KNOBS:
            setattr(sandbox, name, value)
        elif value:
            getattr(sandbox, name)()
    return _knobs(sandbox)


def _action(name: str, arguments: dict[str, Any] | list[Any]) -> Action:
    return ACTIONS[name](*arguments) if isinstance(arguments, list) else ACTIONS[name](**arguments)


def _clear(sandbox: Controlled, _sent: object) -> Reply:
    sandbox.clear()
    return _knobs(sandbox)


def _mint(sandbox: Controlled, claims: dict[str, Any]) -> Reply:
    if "lifetime_s" in claims:
        claims["lifetime_s"] = float(claims["lifetime_s"])
    return text_reply(sandbox.mint(**claims) + "\n", content_type="text/plain")


def _log(sandbox: Controlled, _sent: object) -> Reply:
    shown = ("method", "path", "query", "status", "scheme")
    requests = [{name: getattr(request, name) for name in shown} for request in sandbox.requests]
    return json_reply({"max_in_flight": sandbox.max_in_flight, "requests": requests})


def _sent(request: Request) -> dict[str, Any]:
    """Parse the body of a control request, JSON or a form."""
    if "json" in request.headers.get("content-type", ""):
        sent: dict[str, Any] = json.loads(request.body or b"{}")
        return sent
    return dict(parse_qsl(request.body.decode()))
