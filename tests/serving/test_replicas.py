"""Promotion on running servers: in steps, with failures, and through kubectl."""

import json
import os
import re
import shutil
import socket
import sys
import threading
from contextlib import ExitStack, contextmanager

import pytest
import trustme

from components.runtime.errors import InputError
from pipelines.cli import main
from serving.client.kubectl import ClusterReplicas
from serving.client.promotion import promote, rollback
from serving.client.replicas import Replicas
from serving.server.model import ModelRequest
from serving.server.server import Server, Settings
from serving.tls import ClientTls, ServerTls
from serving.versions.labels import VersionLabels
from serving.versions.manifest import write_manifest
from serving.versions.model_config import ModelConfig, read_model_config, write_model_config
from tests.serving.conftest import wait_until
from tests.serving.toy import MODEL


@pytest.fixture
def base(model_folder, tmp_path):
    """A model base with the versions 3 and 12, and manifests."""
    for number in (3, 12):
        shutil.copytree(model_folder / str(number), tmp_path / "base" / str(number))
        (tmp_path / "base" / str(number) / "assets.extra").mkdir()
        write_manifest(tmp_path / "base" / str(number))
    return tmp_path / "base"


@pytest.fixture
def labels(base):
    """Labels with version 3 as `stable`."""
    labels = VersionLabels(base / "models.config", MODEL, str(base))
    promote(labels, 3, "stable", why="first")
    return labels


@contextmanager
def serving(config_file, count=2, **settings):
    """Run servers in this process; yield them."""
    with ExitStack() as stack:
        servers = []
        for _ in range(count):
            servers.append(Server(Settings(**{"config_file": config_file, "port": 0, "poll_s": 0.05} | settings)))
            stack.callback(servers[-1].stop)
        yield servers


def addresses(servers):
    return [server.address for server in servers]


def answers(servers, label="stable"):
    return [server.models.resolve(ModelRequest(MODEL, label=label))[0] for server in servers]


def specific(labels):
    return next(config.specific for config in read_model_config(labels.config_file) if config.name == labels.model)


def test_one_write_of_the_label_never_takes_effect_on_tf_serving(labels):
    """What promotion did before it asked the servers."""
    with serving(labels.config_file, 1) as servers:
        labels.move(12, "stable", why="newer")
        wait_until(lambda: servers[0].models.statuses(ModelRequest(MODEL)).keys() == {3})
        with pytest.raises(InputError, match=r"stable is version 3; .* version 12 .*not currently available"):
            promote(labels, 12, "stable", why="newer", replicas=Replicas(addresses(servers)), timeout_s=0.5)
        assert answers(servers) == [3]


def test_a_promotion_and_a_rollback_reach_every_server(labels):
    with serving(labels.config_file) as servers:
        replicas = Replicas(addresses(servers))
        assert promote(labels, 12, "canary", why="try it", replicas=replicas, timeout_s=30)
        assert promote(labels, 12, "stable", why="good", replicas=replicas, timeout_s=30)
        assert (answers(servers), answers(servers, "canary")) == ([12, 12], [12, 12])
        assert rollback(labels, "stable", why="noise", replicas=replicas, timeout_s=30)
        assert answers(servers) == [3, 3]


def test_without_wait_the_same_command_continues_where_it_stopped(labels, base, capsys):
    command = ["versions", "promote", "--model-base", str(base), "--model", MODEL, "--version", "12", "--why", "newer"]
    with serving(labels.config_file, poll_s=3600) as servers:  # the servers read the file when told to

        def run():
            main([*command, "--server", *addresses(servers)])
            return capsys.readouterr().out

        def load():
            for server in servers:
                server.models.reload(read_model_config(labels.config_file))

        assert "version 12 is in the file, stable unchanged" in run()
        assert "version 12 is in the file, stable unchanged" in run()
        assert (specific(labels), labels.current(), len(labels.changes())) == ((3, 12), {"stable": 3}, 1)
        load()
        assert "version 12 is loaded on every server" in (said := run())
        assert "not yet on every server" in said
        assert (labels.current(), answers(servers)) == ({"stable": 12}, [3, 3])
        load()
        assert "every server answers stable with version 12" in run()
        assert len(labels.changes()) == 2


def test_a_label_in_use_does_not_move_without_its_servers(labels, base):
    command = ["versions", "promote", "--model-base", str(base), "--model", MODEL, "--version", "12", "--why", "newer"]
    with pytest.raises(SystemExit, match=r"label stable is in use.*--server or --namespace.*--no-server") as caught:
        main(command)
    assert "\n" not in str(caught.value)
    assert labels.current() == {"stable": 3}
    main([*command, "--label", "canary"])
    main([*command, "--no-server"])
    assert labels.current() == {"stable": 12, "canary": 12}


def damage(folder):
    """Break the network of a version, but not its manifest."""
    (folder / "saved_model.pb").write_bytes(b"no graph")
    write_manifest(folder)


def test_a_version_that_cannot_be_loaded_is_withdrawn_and_the_error_is_the_servers(labels, base, model_folder):
    damage(base / "12")
    with serving(labels.config_file) as servers:
        replicas = Replicas(addresses(servers))
        with pytest.raises(InputError, match=r"version 12 cannot be loaded: .*127\.0\.0\.1:\d+: version 12 cannot be"):
            promote(labels, 12, "stable", why="newer", replicas=replicas, timeout_s=30)
        assert (specific(labels), answers(servers), len(labels.changes())) == ((3,), [3, 3], 1)
        shutil.copy(model_folder / "12" / "saved_model.pb", base / "12")
        write_manifest(base / "12")
        # The servers still report the error of the first attempt.
        assert promote(labels, 12, "stable", why="repaired", replicas=replicas, timeout_s=30)
        assert answers(servers) == [12, 12]


def test_a_configuration_that_a_server_refuses_is_an_error_in_its_words(labels, base):
    with serving(labels.config_file) as servers:
        replicas = Replicas(addresses(servers))
        promote(labels, 12, "canary", why="try it", replicas=replicas, timeout_s=30)
        config = ModelConfig("other", str(base / "missing"))
        write_model_config(labels.config_file, [*read_model_config(labels.config_file), config])
        with pytest.raises(InputError, match=r"stable is version 3; .*no version of other can be served") as caught:
            promote(labels, 12, "stable", why="newer", replicas=replicas, timeout_s=0.5)
        assert "\n" not in str(caught.value)


def test_a_server_that_follows_another_file_is_named(labels, tmp_path):
    shutil.copy(labels.config_file, tmp_path / "other.config")
    with serving(labels.config_file, 1) as (server,), serving(tmp_path / "other.config", 1) as (stranger,):
        with pytest.raises(
            InputError, match=rf"not loaded on every server after 0\.5 s: {stranger.address}: "
        ) as caught:
            promote(labels, 12, "stable", why="newer", replicas=Replicas(addresses([server, stranger])), timeout_s=0.5)
        assert "given the content of the file: accepted" in str(caught.value)
        assert labels.current() == {"stable": 3}


def test_a_server_that_restarts_is_waited_for_and_an_unreachable_one_is_named(labels):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    late = f"127.0.0.1:{port}"
    with serving(labels.config_file, 1) as servers, ExitStack() as stack:
        replicas = Replicas([servers[0].address, late])
        with pytest.raises(InputError, match=f"{late}.*UNAVAILABLE"):
            promote(labels, 12, "stable", why="newer", replicas=replicas, timeout_s=0.1)

        def start():
            stack.enter_context(serving(labels.config_file, 1, port=port))

        timer = threading.Timer(1.0, start)
        timer.start()
        assert promote(labels, 12, "stable", why="newer", replicas=replicas, timeout_s=60)
        timer.join()
        assert answers(servers) == [12]


def test_another_command_that_moves_the_label_meanwhile_is_noticed(labels, base):
    shutil.copytree(base / "12", base / "13")
    with serving(labels.config_file, 1) as servers:

        class Meddler(Replicas):
            def failures(self, check):
                failures = super().failures(check)
                if not failures and labels.current() == {"stable": 3}:
                    VersionLabels(labels.config_file, MODEL, str(base)).move(13, "stable", why="at the same time")
                return failures

        with pytest.raises(InputError, match="another command moved stable"):
            promote(labels, 12, "stable", why="newer", replicas=Meddler(addresses(servers)), timeout_s=30)
        assert labels.current() == {"stable": 13}


def test_a_name_means_all_its_addresses_with_its_own_certificate(labels, tmp_path, monkeypatch):
    """As the headless Service of serving/k8s: one name, an address for each pod."""
    ca = trustme.CA()
    issued = ca.issue_cert("servers.example")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "server.pem")
    issued.private_key_pem.write_to_path(tmp_path / "server.key")
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    real = socket.getaddrinfo

    def resolve(host, port, *args, **kwargs):
        hosts = ["127.0.0.1", "127.0.0.2"] if host == "servers.example" else [host]
        return [info for name in hosts for info in real(name, port, *args, **kwargs)]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    tls = ServerTls(tmp_path / "server.pem", tmp_path / "server.key")
    with serving(labels.config_file, 1, tls=tls) as (first,):
        port = int(first.address.rpartition(":")[2])
        with serving(labels.config_file, 1, tls=tls, host="127.0.0.2", port=port) as (second,):
            replicas = Replicas([f"servers.example:{port}"], ClientTls(tmp_path / "ca.pem"))
            assert list(replicas.addresses()) == [f"127.0.0.1:{port}", f"127.0.0.2:{port}"]
            assert promote(labels, 12, "stable", why="newer", replicas=replicas, timeout_s=30)
            assert answers([first, second]) == [12, 12]


KUBECTL = f"""#!{sys.executable}
import json, os, subprocess, sys, time
state, arguments = os.environ["KUBECTL_STATE"], sys.argv[1:]
with open(f"{{state}}/log", "a") as log:
    log.write(json.dumps(arguments) + "\\n")
assert arguments[0] == "--namespace=serving", arguments
if arguments[1:3] == ["get", "configmap"]:
    print(json.dumps({{"data": {{"models.config": open(f"{{state}}/models.config").read()}}}}))
elif arguments[1:3] == ["get", "pods"]:
    print(open(f"{{state}}/pods.json").read())
elif arguments[1] == "apply":
    content = json.load(sys.stdin)
    assert (content["kind"], content["metadata"]["namespace"]) == ("ConfigMap", "serving")
    open(f"{{state}}/models.config", "w").write(content["data"]["models.config"])
    # The kubelet updates the file in the pods some time later.
    delayed = "import os, shutil, sys, time; time.sleep(0.5); shutil.copy(sys.argv[1], sys.argv[2] + '.new');"
    delayed += "os.replace(sys.argv[2] + '.new', sys.argv[2])"
    mounted = os.environ["MOUNTED_CONFIG"]
    subprocess.Popen([sys.executable, "-c", delayed, f"{{state}}/models.config", mounted], stdout=subprocess.DEVNULL)
elif arguments[1] == "port-forward":
    ports = json.load(open(f"{{state}}/ports.json"))
    pod = arguments[2].removeprefix("pod/")
    if pod not in ports:
        sys.exit("error: unable to forward port because pod is not running. Current status=Pending")
    print(f"Forwarding from 127.0.0.1:{{ports[pod]}} -> 8500", flush=True)
    open(f"{{state}}/forward.{{pod}}", "w").write(str(os.getpid()))
    time.sleep(600)
else:
    sys.exit(f"error: unknown command {{arguments}}")
"""


def install_kubectl(tmp_path, monkeypatch):
    """Put the stand-in for kubectl first on the PATH; return the folder of its state."""
    programs, state = tmp_path / "bin", tmp_path / "state"
    programs.mkdir()
    state.mkdir()
    (programs / "kubectl").write_text(KUBECTL)
    (programs / "kubectl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("KUBECTL_STATE", str(state))
    monkeypatch.setenv("MOUNTED_CONFIG", str(tmp_path / "mounted.config"))
    return state


@pytest.fixture
def cluster(labels, tmp_path, monkeypatch):
    """Two servers as pods, behind a stand-in for kubectl; the ConfigMap has another base than the operator's file."""
    state = install_kubectl(tmp_path, monkeypatch)
    for path in (state / "models.config", tmp_path / "mounted.config"):
        shutil.copy(labels.config_file, path)
    (file_config,) = read_model_config(labels.config_file)
    write_model_config(labels.config_file, [ModelConfig(MODEL, "gs://example-models/toy", (3,), 1, file_config.labels)])
    with serving(tmp_path / "mounted.config") as servers:
        pods = [
            {"metadata": {"name": f"pod-{n}"}, "spec": {"nodeName": "node"}, "status": {"phase": "Running"}}
            for n in range(2)
        ]
        pods.append({"metadata": {"name": "waiting"}, "spec": {}, "status": {"phase": "Pending"}})
        ending = {"name": "ending", "deletionTimestamp": "2026-01-01T00:00:00Z"}
        pods.append({"metadata": ending, "spec": {"nodeName": "node"}, "status": {"phase": "Running"}})
        (state / "pods.json").write_text(json.dumps({"items": pods}))
        ports = {f"pod-{n}": server.address.rpartition(":")[2] for n, server in enumerate(servers)}
        (state / "ports.json").write_text(json.dumps(ports))
        yield servers


def test_one_command_promotes_and_one_rolls_back_on_a_cluster(cluster, labels, base, tmp_path, capsys):
    options = ["--model-base", str(base), "--model", MODEL, "--namespace", "serving", "--wait", "--timeout", "30"]
    main(["versions", "promote", *options, "--version", "12", "--why", "newer"])
    assert "the servers load them from gs://example-models/toy" in capsys.readouterr().out
    assert answers(cluster) == [12, 12]
    main(["versions", "rollback", *options, "--why", "noise"])
    assert answers(cluster) == [3, 3]
    # The base of the ConfigMap stays in the cluster, that of the file in the file.
    bases = [read_model_config(path)[0].base for path in (tmp_path / "state" / "models.config", labels.config_file)]
    assert bases == [str(base), "gs://example-models/toy"]
    for pod in ("pod-0", "pod-1"):
        process = int((tmp_path / "state" / f"forward.{pod}").read_text())
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)
    applied = [json.loads(line) for line in (tmp_path / "state" / "log").read_text().splitlines() if "apply" in line]
    assert all("--server-side" in command and "--field-manager=lung-ct-versions" in command for command in applied)


def test_a_pod_that_is_starting_is_waited_for_and_a_missing_config_map_is_an_error(cluster, labels, tmp_path):
    pods = json.loads((tmp_path / "state" / "pods.json").read_text())
    starting = {"metadata": {"name": "starting"}, "spec": {"nodeName": "node"}, "status": {"phase": "Pending"}}
    (tmp_path / "state" / "pods.json").write_text(json.dumps({"items": [*pods["items"], starting]}))
    with ClusterReplicas("serving") as replicas:
        with pytest.raises(InputError, match=r"not loaded on every server after 1 s: .*starting: .*UNAVAILABLE"):
            promote(labels, 12, "stable", why="newer", replicas=replicas, timeout_s=1)
        (tmp_path / "state" / "models.config").write_text("")
        with pytest.raises(InputError, match=r"ConfigMap lung-infection-models: .*make deploy"):
            promote(labels, 12, "stable", why="newer", replicas=replicas, timeout_s=1)
    with pytest.raises(InputError, match=re.escape("kubectl --namespace=other get configmap")):
        ClusterReplicas("other").publish(labels.config_file)
