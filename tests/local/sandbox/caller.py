"""A simple client of the sandbox."""

import requests

from local.sandbox import Sandbox

COURSES = "catalog/v1/catalogs/1/courses/"
FOREIGN = "https://discovery.edx.org/api/v1/catalogs/1/courses/"


class Caller:
    """A plain caller of the sandbox, with a token."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.session = requests.Session()
        self.session.headers["Authorization"] = f"JWT {self.token()['access_token']}"
        sandbox.forget_requests()

    def token(self, **fields: str) -> dict[str, object]:
        form = {
            "grant_type": "client_credentials",
            "client_id": "sandbox-client",
            "client_secret": "sandbox-secret",
            "token_type": "jwt",
        }
        address = self.sandbox.settings()["EDX_TOKEN_URL"]
        token: dict[str, object] = self.session.post(address, data=form | fields, timeout=5).json()
        return token

    def get(self, path: str = COURSES, **headers: str) -> requests.Response:
        return self.session.get(self.sandbox.url + path, headers=headers, timeout=5, allow_redirects=False)

    def control(self, path: str, **sent: object) -> requests.Response:
        return self.session.post(f"{self.sandbox.url}sandbox/{path}", json=sent, timeout=5)


def keys(page: requests.Response) -> list[str]:
    return [course["key"] for course in page.json()["results"]]
