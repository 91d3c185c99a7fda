"""How to use the sandbox's controls, for `python -m local.sandbox --help`, with an example of each case."""

import json
import shlex
from collections.abc import Callable, Mapping
from inspect import signature
from typing import NamedTuple

from local.sandbox.controls import ACTIONS, CHANGES, COMMANDS, KNOBS


class Example(NamedTuple):
    """A behaviour of edX and the control that causes it: the path below /sandbox/ and the JSON to send."""

    case: str
    path: str
    sent: Mapping[str, object]

    def curl(self, url: str) -> str:
        """Return the control as a shell command."""
        sent = shlex.quote(json.dumps(self.sent))
        return f"curl {url}sandbox/{self.path} -H 'Content-Type: application/json' -d {sent}"


def _rule(case: str, action: str, arguments: Mapping[str, object], **limits: object) -> Example:
    rule = {"path": "/courses/", "action": action, "with": arguments, **limits}
    return Example(case, "knobs", {"rules": [rule]})


HARMLESS = _rule("throttles once, for five seconds", "throttle", {"retry_after": 5}, times=1)
"""A good first example: a sync waits until this short throttling ends."""

_LOGIN = {"body": "<html>Sign in</html>", "content_type": "text/html"}

EXAMPLES = (
    HARMLESS,
    Example("allows 200 requests an hour, as the real server does", "knobs", {"requests_per_hour": 200}),
    _rule("removes a course and adds another after the first page", "change", {"swap": 1}, offset=0, times=1),
    Example("cannot render a course", "catalogs/1", {"unrenderable": ["MITx+100x"]}),
    _rule("is behind a firewall that answers 403", "gateway", {}, offset=100),
    _rule("is behind an API gateway", "gateway", {"status": 404, "as_json": True}, offset=100),
    _rule("truncates a body", "cut", {}, times=1),
    _rule("ends a body early, after a }", "short", {}, times=1),
    _rule("ends gzip early, after a }", "short", {"gzipped": True}, times=1),
    _rule("answers 200 with an empty body", "answer", {"body": ""}, times=1),
    _rule("answers 200 with a login page", "answer", _LOGIN, times=1),
    _rule("answers 408", "answer", {"status": 408}, times=1),
    _rule("sends a 103 before its answer", "early_hints", {}),
    _rule("shows an empty first page although there are more", "envelope", {"results": []}, offset=0),
    Example("returns fewer courses than requested", "catalogs/1", {"max_limit": 20}),
    Example("lists a course twice", "catalogs/1", {"list_twice": ["MITx+100x"]}),
    Example("no longer sells a seat", "catalogs/1", {"expire_seats": ["course-v1:HarvardX+101x+2T2026"]}),
    _rule("returns endless pages of courses without keys", "keyless", {}),
    _rule("writes a number of 5,000 digits", "long_number", {}, offset=0),
)


def manual(url: str) -> str:
    """Return all controls and examples as text for a console."""
    examples = "\n".join(f"  edX {example.case}:\n    {example.curl(url)}" for example in EXAMPLES)
    actions = "\n".join(
        f"  {name}{_arguments(action)}\n      {(action.__doc__ or '').partition(chr(10))[0]}"
        for name, action in ACTIONS.items()
    )
    return f"""\
POST {url}sandbox/knobs sets knobs and adds rules. GET shows them. DELETE restores the initial state:
no rules, initial knobs and catalogs.
{_table({**KNOBS, **COMMANDS})}
  rules              a list of rules: what to do with requests whose path matches

A rule is an object:
  path               a regular expression, found anywhere in the path
  action             one of the actions below
  with               an object or a list with arguments of the action; others have their defaults
  offset             only the page that starts there
  after, times       skip the first `after` requests; then apply the action at most `times` times

Actions:
{actions}

POST {url}sandbox/catalogs/ID changes what a catalog shows:
{_table(CHANGES)}

GET {url}sandbox/requests shows the received requests.
POST {url}mint returns an administrator's token; claims in the request replace the default ones.

Examples:
{examples}
  Restore the initial state:
    curl -X DELETE {url}sandbox/knobs

The connector stores each throttling for its edX client id until the throttling ends. To avoid one from an
earlier run, start the sandbox with another --client-id.
"""


def _table(lines: Mapping[str, str]) -> str:
    return "\n".join(f"  {name:<18} {text}" for name, text in lines.items())


def _arguments(action: Callable[..., object]) -> str:
    taken = signature(action)
    untyped = [argument.replace(annotation=argument.empty) for argument in taken.parameters.values()]
    return str(taken.replace(parameters=untyped, return_annotation=taken.empty))
