"""The gateway of a full Kubeflow: Istio with oauth2-proxy and Dex before the API, as kubeflow/manifests sets them up.

Sources: kubeflow/manifests common/oauth2-proxy/base/oauth2_proxy.cfg, common/oauth2-proxy/components,
common/dex/overlays/oauth2-proxy; oauth2-proxy oauthproxy.go; dexidp/dex 2.45 server/handlers.go and web/templates;
kubeflow/dashboard components/centraldashboard/app/server.ts.
"""

import secrets
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

COOKIE = "oauth2_proxy_kubeflow"
_FORM = """<title>dex</title><form method="post" action="{action}">
<input required id="login" name="login" type="text"/><input required id="password" name="password" type="password"/>
{error}</form>"""
_CONNECTOR = """<div class="theme-form-row"><a href="{link}" class="dex-btn theme-btn-provider">
  <span class="dex-btn-icon dex-btn-icon--{kind}"></span>
  <span class="dex-btn-text">Log in with {kind}</span></a></div>"""


@dataclass
class Reply:
    """An HTTP response."""

    status: int
    body: str = ""
    content_type: str = "text/html"
    headers: list[tuple[str, str]] = field(default_factory=list)


def _redirect(status: int, path: str, query: dict[str, str], *headers: tuple[str, str]) -> Reply:
    return Reply(status, headers=[("Location", f"{path}?{urlencode(query)}" if query else path), *headers])


@dataclass
class Gateway:
    """The users, tokens and sessions, and how the login is configured."""

    passwords: dict[str, str] = field(default_factory=dict)
    tokens: set[str] = field(default_factory=set)  # service-account tokens that RequestAuthentication accepts
    connectors: tuple[str, ...] = ("local",)
    skip_provider_button: bool = False  # True also stands for Kubeflow up to 1.8: a redirect of every request
    skip_approval: bool = True
    dex_is_down: bool = False
    sessions: set[str] = field(default_factory=set)
    csrf: set[str] = field(default_factory=set)
    logged_in: dict[str, bool] = field(default_factory=dict)  # Dex's requests by id
    states: dict[str, str] = field(default_factory=dict)  # oauth2-proxy's state, by the id of Dex's request

    def answer(self, method: str, target: str, headers: Any, body: bytes) -> Reply | None:
        """The gateway's own response; None for a request that it passes on to ml-pipeline-ui."""
        url = urlsplit(target)
        query = dict(parse_qsl(url.query, keep_blank_values=True))
        cookies = {name: morsel.value for name, morsel in SimpleCookie(headers.get("Cookie", "")).items()}
        if url.path.startswith("/dex/"):
            return self._dex(method, url.path, query, {name: v[0] for name, v in parse_qs(body.decode()).items()})
        if url.path.startswith("/oauth2/"):
            return self._oauth2(url.path, query, cookies)
        if authorization := headers.get("Authorization"):  # authorizationpolicy.istio-ingressgateway-oauth2-proxy.yaml
            if authorization.removeprefix("Bearer ") not in self.tokens:
                return Reply(401, "Jwt is expired", "text/plain")
        elif cookies.get(COOKIE) not in self.sessions:
            return self._refuse(url.path)
        if url.path.startswith("/pipeline"):
            return None
        if method != "GET":
            return Reply(404, f"<title>Error</title><pre>Cannot {method} {url.path}</pre>")
        return Reply(200, "<title>Kubeflow Central Dashboard</title>")

    def _refuse(self, path: str) -> Reply:
        if self.skip_provider_button:
            return self._start(path)
        if "/apis/" in path or "/api/" in path:  # api_routes
            return Reply(401, "{}", "application/json")
        return Reply(403, '<title>Sign In</title><form method="GET" action="/oauth2/start">')

    def _start(self, destination: str) -> Reply:
        nonce = secrets.token_hex(8)
        self.csrf.add(nonce)
        query = {"client_id": "kubeflow-oidc-authservice", "redirect_uri": "/oauth2/callback", "response_type": "code"}
        cookie = ("Set-Cookie", f"{COOKIE}_csrf={nonce}; Path=/; HttpOnly")
        return _redirect(302, "/dex/auth", query | {"state": f"{nonce}:{destination}"}, cookie)

    def _oauth2(self, path: str, query: dict[str, str], cookies: dict[str, str]) -> Reply:
        if path == "/oauth2/start":
            return self._start(query.get("rd", "/"))
        nonce, _, destination = query["state"].partition(":")
        if cookies.get(f"{COOKIE}_csrf") != nonce or nonce not in self.csrf:
            return Reply(403, "Login Failed: Unable to find a valid CSRF token. Please try again.")
        assert self.logged_in[query["code"]]
        session = secrets.token_hex(8)
        self.sessions.add(session)
        return _redirect(
            302,
            destination,
            {},
            ("Set-Cookie", f"{COOKIE}_csrf=; Path=/; Max-Age=0"),
            ("Set-Cookie", f"{COOKIE}={session}; Path=/; HttpOnly"),
        )

    def _dex(self, method: str, path: str, query: dict[str, str], form: dict[str, str]) -> Reply:
        if self.dex_is_down:
            return Reply(503, "no healthy upstream", "text/plain")
        match path.split("/")[2:]:
            case ["auth"] if len(self.connectors) == 1:
                return _redirect(302, f"/dex/auth/{self.connectors[0]}", query)
            case ["auth"]:
                links = {kind: f"/dex/auth/{kind}?{urlencode(query)}".replace("&", "&amp;") for kind in self.connectors}
                return Reply(200, "".join(_CONNECTOR.format(kind=kind, link=link) for kind, link in links.items()))
            case ["auth", "local" | "ldap" as kind]:
                request = secrets.token_hex(8)
                self.logged_in[request], self.states[request] = False, query["state"]
                return _redirect(302, f"/dex/auth/{kind}/login", {"back": "", "state": request})
            case ["auth", _, "login"] if method == "GET":
                return Reply(200, _FORM.format(action=f"{path}?{urlencode(query)}", error=""))
            case ["auth", _, "login"]:
                if self.passwords.get(form.get("login", ""), "") != form.get("password"):
                    return Reply(401, _FORM.format(action=path, error="Invalid Email Address and password."))
                self.logged_in[query["state"]] = True
                if self.skip_approval:
                    return self._send_code(query["state"])
                return _redirect(303, "/dex/approval", {"req": query["state"], "hmac": f"mac-{query['state']}"})
            case ["approval"]:
                values = query | form
                if values.get("hmac") != f"mac-{values.get('req')}":
                    return Reply(401, "Unauthorized request")
                if method == "GET":
                    return Reply(
                        200, '<h2>Grant Access</h2><form method="post"><input name="approval" value="approve">'
                    )
                assert values["approval"] == "approve"
                return self._send_code(values["req"])
        return Reply(200, "<title>Sign in at the identity provider</title>")  # another connector's own page

    def _send_code(self, request: str) -> Reply:
        return _redirect(303, "/oauth2/callback", {"code": request, "state": self.states[request]})
