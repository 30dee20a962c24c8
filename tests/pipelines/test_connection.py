"""Addresses of the API, logins and their failures, against the API, its UI and the gateway of a full Kubeflow."""

from functools import partial

import pytest
import yaml

from components.runtime.errors import InputError
from pipelines.cli import main
from pipelines.cluster.connection import Cluster, LoginError, api_call, check_api
from pipelines.cluster.runs import RunSettings, schedule, submit, upload
from pipelines.deploy.deployment import Deployment
from pipelines.deploy.doctor import run_checks
from tests.pipelines.kfp_server import run_kfp_server
from tests.pipelines.test_cluster import compile_counting, without_machine_settings  # noqa: F401

ENDINGS = ["", "/", "/pipeline", "/pipeline//"]


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    return compile_counting(tmp_path_factory.mktemp("package") / "counting.yaml", 5)


@pytest.fixture
def kubeflow():
    with run_kfp_server(kind="kubeflow", namespace="radiology") as api:
        api.gateway.passwords["user@example.com"] = "12341234"
        api.gateway.tokens.add("secret-word")
        yield api


@pytest.fixture
def secret(tmp_path):
    """A function that writes a file with a secret."""

    def write(content):
        (tmp_path / "secret").write_text(content)
        return tmp_path / "secret"

    return write


@pytest.fixture
def user(kubeflow, secret):
    """A function that returns a cluster with a user's credentials."""
    return lambda ending="/pipeline", password="12341234": Cluster(
        kubeflow.url + ending, "radiology", username="user@example.com", password_file=secret(password)
    )


def use_every_command(cluster, package):
    uploaded = upload(cluster, package)
    submit(cluster, uploaded, RunSettings("a run", "lung"))
    schedule(cluster, uploaded, RunSettings("weekly", "lung"), "0 0 3 * * 1")
    check_api(cluster)


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("kind", ["api", "ui"])
def test_the_api_is_found_with_and_without_pipeline_by_one_probe(kind, ending, package):
    with run_kfp_server(kind=kind) as api:
        use_every_command(Cluster(api.url + ending), package)
        assert len(api.runs) == len(api.schedules) == len(api.versions) == 1
        assert api.requests.count("GET healthz") == (2 if (kind, ending[:2]) == ("api", "/p") else 1)


def test_without_a_host_the_api_is_in_its_own_namespace_not_the_users(package, tmp_path):
    with run_kfp_server(kind="api", namespace="radiology") as api:
        context = {"contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}], "current-context": "c"}
        cluster = {"clusters": [{"name": "c", "cluster": {"server": api.url}}], "users": [{"name": "u", "user": {}}]}
        (tmp_path / ".kube").mkdir()
        (tmp_path / ".kube" / "config").write_text(yaml.safe_dump({"kind": "Config"} | context | cluster))
        upload(Cluster(namespace="radiology"), package)
        assert len(api.versions) == 1


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_token_reaches_the_api_of_a_full_kubeflow(kubeflow, secret, ending, package):
    use_every_command(Cluster(kubeflow.url + ending, "radiology", token_file=secret("secret-word")), package)
    assert len(kubeflow.runs) == len(kubeflow.schedules) == len(kubeflow.versions) == 1


@pytest.mark.parametrize("token", [None, "expired"])
@pytest.mark.parametrize("ending", ENDINGS)
def test_a_missing_or_expired_token_is_an_error_in_every_command(kubeflow, secret, ending, token, package):
    cluster = Cluster(kubeflow.url + ending, "radiology", token_file=token and secret(token))
    uploaded = upload(Cluster(kubeflow.url, "radiology", token_file=secret("secret-word")), package)
    if token:
        secret(token)
    settings = RunSettings("a run", "lung")
    for use in (
        lambda: upload(cluster, package),
        lambda: submit(cluster, uploaded, settings),
        lambda: schedule(cluster, uploaded, settings, "0 0 3 * * 1"),
        lambda: check_api(cluster),
    ):
        with pytest.raises(InputError, match=r"responded 401: .*--token-file.*--username") as error:
            use()
        assert ("Jwt is expired" in str(error.value)) == (token is not None)
    assert (kubeflow.runs, kubeflow.schedules) == ({}, {})


def test_a_session_that_expires_before_a_download_is_an_error_and_no_file(kubeflow, user):
    kubeflow.artifacts["minio/bucket/report"] = b'<html><input type="password"></html>'
    kubeflow.gateway.skip_provider_button = True  # the login page comes by a redirect, with status 200
    client = user().connect()
    download = partial(client.call, "/artifacts/minio/bucket/report", response_type=None)
    with api_call(kubeflow.url):
        assert download(query={"namespace": "radiology"}).data == kubeflow.artifacts["minio/bucket/report"]
    kubeflow.gateway.sessions.clear()
    with pytest.raises(LoginError, match=r"login page.*expired"), api_call(kubeflow.url):
        download(query={"namespace": "radiology"})


def test_a_redirect_to_the_login_page_is_an_error(kubeflow, package):
    # oauth2-proxy without a sign-in page of its own, and Kubeflow up to 1.8: urllib3 follows to a page with status 200.
    kubeflow.gateway.skip_provider_button = True
    with pytest.raises(InputError, match=r"login page instead of JSON: it requires a login; log in again"):
        upload(Cluster(kubeflow.url, "radiology"), package)
    with pytest.raises(SystemExit, match=r"error: .*login page instead of JSON"):
        main(["submit", "--host", kubeflow.url, "--namespace", "radiology", "--package", str(package)])


def test_a_session_that_expires_is_an_error(kubeflow, user, package):
    kubeflow.gateway.skip_provider_button = True
    cluster = user()
    uploaded = upload(cluster, package)
    kubeflow.gateway.sessions.clear()
    with pytest.raises(InputError, match=r"login page instead of JSON: the token or session has expired"):
        submit(cluster, uploaded, RunSettings("a run", "lung"))
    assert kubeflow.runs == {}


def test_an_address_with_another_path_is_not_the_api(kubeflow, secret, package):
    cluster = Cluster(f"{kubeflow.url}/notebooks", "radiology", token_file=secret("secret-word"))
    with pytest.raises(InputError, match=r"notebooks is not the Kubeflow.*'Kubeflow Central Dashboard'; check --host"):
        upload(cluster, package)


@pytest.mark.parametrize(
    ("ending", "skip_provider_button", "connectors", "skip_approval"),
    [
        ("", False, ("local",), True),
        ("/pipeline/", False, ("ldap",), False),
        ("/pipeline", True, ("google", "local"), True),
        ("/", True, ("google", "ldap"), False),
    ],
)
def test_a_user_logs_in_as_in_a_browser(
    kubeflow, user, package, ending, skip_provider_button, connectors, skip_approval
):
    gateway = kubeflow.gateway
    gateway.skip_provider_button, gateway.connectors = skip_provider_button, connectors
    gateway.skip_approval = skip_approval
    use_every_command(user(ending), package)
    assert len(gateway.sessions) == len(kubeflow.runs) == 1


def test_submit_takes_the_user_and_a_password_file(kubeflow, secret, package, capsys):
    address = ["--host", f"{kubeflow.url}/", "--namespace", "radiology"]
    password_file = str(secret("12341234\n"))
    user = ["--username", "user@example.com", "--password-file", password_file]
    main(["submit", *address, *user, "--package", str(package)])
    assert capsys.readouterr().out == f"run run-1: {kubeflow.url}/pipeline/#/runs/details/run-1\n"


def test_a_session_that_expires_before_a_post_is_an_error(kubeflow, user, package):
    # urllib3 repeats the POST at each redirect, up to Dex's form, which rejects it with status 401.
    kubeflow.gateway.skip_provider_button = True
    cluster = user()
    client = cluster.connect()
    kubeflow.gateway.sessions.clear()
    with pytest.raises(InputError, match=r"responded 401: .*log in again"), api_call(cluster.host):
        client._experiment_api.experiment_service_create_experiment(experiment={"display_name": "lung"})


def test_an_address_without_a_login_needs_no_session(secret, package):
    with run_kfp_server(kind="ui") as api:
        upload(Cluster(api.url, username="user@example.com", password_file=secret("12341234")), package)
        assert len(api.versions) == 1


@pytest.mark.parametrize(
    ("password", "settings", "reason"),
    [
        ("wrong", {}, "rejected the password of user@example.com; check --password-file"),
        ("12341234", {"dex_is_down": True}, "login service responded 503 at .*/dex/auth"),
        ("12341234", {"connectors": ("google", "github")}, "only google, github; use --token-file"),
        ("12341234", {"connectors": ("saml",)}, "not a login page with a password; use --token-file"),
        ("", {}, "does not contain a password"),
    ],
)
def test_a_failed_login_is_an_error_in_one_line(kubeflow, user, password, settings, reason):
    for name, value in settings.items():
        setattr(kubeflow.gateway, name, value)
    with pytest.raises(InputError, match=reason) as error:
        check_api(user(password=password))
    assert "\n" not in str(error.value)
    assert "12341234" not in str(error.value)


def test_an_unreachable_login_is_an_error(secret):
    with run_kfp_server() as api:
        gone = api.url
    with pytest.raises(InputError, match=f"{gone}: the login service is unreachable"):
        check_api(Cluster(gone, username="user@example.com", password_file=secret("12341234")))


@pytest.mark.parametrize(
    "settings", [{"username": "a"}, {"password_file": "f"}, {"username": "a", "password_file": "f", "token_file": "t"}]
)
def test_incomplete_credentials_are_an_error(settings):
    with pytest.raises(InputError, match=r"--username and --(password|token)-file: expected"):
        Cluster("https://kubeflow.example", **settings)


def test_the_doctor_logs_in_too(kubeflow, secret):
    settings = {"host": kubeflow.url, "kfp_namespace": "radiology"}
    *_, denied = run_checks(Deployment(**settings))
    user = {"username": "user@example.com", "password_file": secret("12341234")}
    *_, passed = run_checks(Deployment(**settings, **user))
    *_, without_namespace = run_checks(Deployment(host=kubeflow.url, **user))
    assert (denied.passed, passed.passed, without_namespace.passed) == (False, True, False)
    assert "401" in denied.result
    assert passed.result == f"{kubeflow.url}/pipeline: reachable"
    assert "KFP_NAMESPACE" in without_namespace.remedy
