"""How to turn the sandbox's controls, for `python -m local.sandbox --help`, with an example of each case."""

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
"""A good first example: a sync waits for the end of such a short throttling."""

_LOGIN = {"body": "<html>Sign in</html>", "content_type": "text/html"}

EXAMPLES = (
    HARMLESS,
    Example("allows 200 requests an hour, as the real server does", "knobs", {"requests_per_hour": 200}),
    _rule("swaps a course for another behind the first page", "change", {"swap": 1}, offset=0, times=1),
    Example("cannot render a course", "catalogs/1", {"unrenderable": ["MITx+100x"]}),
    _rule("stands behind a firewall that answers 403", "gateway", {}, offset=100),
    _rule("stands behind an API gateway", "gateway", {"status": 404, "as_json": True}, offset=100),
    _rule("breaks off a body", "cut", {}, times=1),
    _rule("ends a body early, behind a }", "short", {}, times=1),
    _rule("ends gzip early, behind a }", "short", {"gzipped": True}, times=1),
    _rule("answers nothing, with 200", "answer", {"body": ""}, times=1),
    _rule("answers a login page, with 200", "answer", _LOGIN, times=1),
    _rule("answers 408", "answer", {"status": 408}, times=1),
    _rule("sends a 103 before its answer", "early_hints", {}),
    _rule("shows an empty first page although there are more", "envelope", {"results": []}, offset=0),
    Example("gives fewer courses than asked for", "catalogs/1", {"max_limit": 20}),
    Example("lists a course twice", "catalogs/1", {"list_twice": ["MITx+100x"]}),
    Example("sells a seat no more", "catalogs/1", {"expire_seats": ["course-v1:HarvardX+101x+2T2026"]}),
    _rule("shows pages without end, of courses without keys", "keyless", {}),
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
POST {url}sandbox/knobs turns knobs and adds rules. GET shows them. DELETE puts everything back as
it was at the start: no rules, all knobs, all catalogs.
{_table({**KNOBS, **COMMANDS})}
  rules              a list of rules: what to do to the requests whose path fits

A rule is an object:
  path               a regular expression, found anywhere in the path
  action             one of those below
  with               an object with arguments of the action, or a list of them; others have their default
  offset             only the page that starts there
  after, times       skip so many requests first; act so often, then no more

Actions:
{actions}

POST {url}sandbox/catalogs/ID changes what a catalog shows:
{_table(CHANGES)}

GET {url}sandbox/requests shows what was asked.
POST {url}mint returns an administrator's token, with the claims that are sent.

Examples:
{examples}
  Everything as at the start:
    curl -X DELETE {url}sandbox/knobs

The connector remembers a throttling that it has met until it is over, in its storage, for the client id. A
--client-id of its own is another client.
"""


def _table(lines: Mapping[str, str]) -> str:
    return "\n".join(f"  {name:<18} {text}" for name, text in lines.items())


def _arguments(action: Callable[..., object]) -> str:
    taken = signature(action)
    untyped = [argument.replace(annotation=argument.empty) for argument in taken.parameters.values()]
    return str(taken.replace(parameters=untyped, return_annotation=taken.empty))
