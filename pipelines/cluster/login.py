"""Log in to Kubeflow with a user name and a password, as a browser does: oauth2-proxy or authservice, then Dex."""

import re
from collections.abc import Callable
from html import unescape
from pathlib import Path
from urllib.parse import parse_qsl, urljoin, urlsplit

import requests

from components.runtime.errors import InputError

_TIMEOUT_S = 30
_PASSWORD_FIELD = 'name="password"'  # in Dex's form, web/templates/password.html; static passwords and LDAP share it
_CONNECTOR = re.compile(r'href="([^"]+)"[^>]*>\s*<span[^>]*dex-btn-icon--(\w+)"')  # web/templates/login.html


def log_in(address: str, username: str, password: str, ca_file: Path | None = None) -> str:
    """Log in and return the session's cookies as the value of a Cookie header, "" if no login is required.

    The flow is that of Kubeflow's documentation, "Connect the SDK to the API", outside the cluster.

    Args:
        address: an address behind the login, such as https://kubeflow.example/pipeline.
        username: the user name or e-mail address that Dex expects.
        password: the password.
        ca_file: certificate of the authority that signed the gateway's certificate; None for the system's.

    Raises:
        InputError: the password is wrong, the login service is unreachable, or its page accepts no password.
    """
    with requests.Session() as session:
        request = _requester(session, address, ca_file)
        page = request("GET", f"{address}/")
        if page.status_code in (401, 403):  # oauth2-proxy's sign-in page, whose button leads to this path
            page = request("GET", urljoin(page.url, "/oauth2/start?rd=/"))
        if not page.history:
            return ""
        if urlsplit(page.url).path.endswith("/auth"):
            page = request("GET", _password_connector(page))
        if _PASSWORD_FIELD not in page.text:
            raise InputError(f"{page.url}: not a login page with a password; use --token-file instead")
        page = request("POST", page.url, {"login": username, "password": password})
        if _PASSWORD_FIELD in page.text:  # with status 401; 200 before Dex 2.36
            raise InputError(f"{address}: the login rejected the password of {username}; check --password-file")
        if urlsplit(page.url).path.endswith("/approval"):
            page = request("POST", page.url, dict(parse_qsl(urlsplit(page.url).query)) | {"approval": "approve"})
        if re.search("/dex/|/oauth2/", urlsplit(page.url).path):
            raise InputError(f"{page.url.partition('?')[0]}: the login failed with status {page.status_code}")
        return "; ".join(f"{cookie.name}={cookie.value}" for cookie in session.cookies)


def _requester(session: requests.Session, address: str, ca_file: Path | None) -> Callable[..., requests.Response]:
    def request(method: str, url: str, form: dict[str, str] | None = None) -> requests.Response:
        verify = True if ca_file is None else str(ca_file)
        try:
            page = session.request(method, url, data=form, timeout=_TIMEOUT_S, verify=verify)
        except (requests.RequestException, OSError) as error:
            raise InputError(f"{address}: the login service is unreachable: {error}") from error
        if page.status_code >= 500:
            where = page.url.partition("?")[0]
            raise InputError(f"{address}: the login service responded {page.status_code} at {where}; try again later")
        return page

    return request


def _password_connector(page: requests.Response) -> str:
    """The address of the form for a password, from Dex's page that offers several ways to log in."""
    connectors = {kind: unescape(link) for link, kind in _CONNECTOR.findall(page.text)}
    for kind in ("local", "ldap"):
        if kind in connectors:
            return urljoin(page.url, connectors[kind])
    offered = ", ".join(connectors) or "none"
    raise InputError(f"{page.url.partition('?')[0]}: no login by password, only {offered}; use --token-file instead")
