"""Answers cross-origin requests like Core Tools, by `Host.CORS` of local.settings.json or by --cors.

Core Tools allow every method and header to the origins listed (Startup.cs of azure-functions-core-tools). The
answers are those of ASP.NET Core (CorsMiddleware.cs, CorsService.cs): each preflight is answered with 204
before any function, and what is allowed is named only to an origin of the list.
"""

import json
from http import HTTPStatus
from pathlib import Path

from local.host.http import Request, Response


class Cors:
    """Which origins may read answers.

    Args:
        origins: separated by commas, `*` for any; empty for none.
        credentials: whether browsers may send cookies and logins along.

    Raises:
        ValueError: credentials for any origin, which ASP.NET Core refuses.
    """

    def __init__(self, origins: str = "", *, credentials: bool = False) -> None:
        self._origins = {origin for part in origins.split(",") if (origin := part.strip().lower())}
        self._credentials = credentials
        if credentials and self._origins == {"*"}:
            raise ValueError("CORS cannot allow credentials to every origin: name the origins instead of *")

    def preflight(self, request: Request) -> Response | None:
        """Return the answer to a preflight; None when the request is not one or no origin is allowed."""
        method = request.headers.get("access-control-request-method")
        if not self._origins or request.method != "OPTIONS" or "origin" not in request.headers or not method:
            return None
        headers = self._allowed(request)
        if headers:
            headers["Access-Control-Allow-Methods"] = method
            if asked := request.headers.get("access-control-request-headers"):
                headers["Access-Control-Allow-Headers"] = asked
        return Response(HTTPStatus.NO_CONTENT, headers)

    def shared(self, request: Request, response: Response) -> Response:
        """Return an answer with the headers that let the request's origin read it."""
        allowed = self._allowed(request)
        vary = [value for name, value in response.headers.items() if name.lower() == "vary"]
        if vary and "Vary" in allowed:
            allowed["Vary"] = ", ".join([*vary, allowed["Vary"]])
        kept = {name: value for name, value in response.headers.items() if name.title() not in allowed}
        return Response(response.status, {**kept, **allowed}, response.body)

    def _allowed(self, request: Request) -> dict[str, str]:
        origin = request.headers.get("origin", "")
        if origin and self._origins == {"*"}:
            return {"Access-Control-Allow-Origin": "*"}
        if origin.lower() not in self._origins:
            return {}
        return {
            "Access-Control-Allow-Origin": origin,
            **({"Access-Control-Allow-Credentials": "true"} if self._credentials else {}),
            **({"Vary": "Origin"} if len(self._origins) > 1 else {}),
        }


def cors_options(settings_file: Path) -> list[str]:
    """Return the origins in `Host` of a local.settings.json, if any, as options of a host's command line."""
    host = json.loads(settings_file.read_text("utf-8-sig")).get("Host") if settings_file.is_file() else None
    if not isinstance(host, dict) or not host.get("CORS"):
        return []
    return [
        "--cors",
        str(host["CORS"]),
        *(["--cors-credentials"] if host.get("CORSCredentials") is True else []),
    ]
