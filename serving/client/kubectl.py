"""The servers of a namespace, through kubectl: their `models.config` in a ConfigMap, and a forwarded port for each."""

import json
import re
import subprocess
import tempfile
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from components.runtime.errors import InputError
from components.runtime.programs import read_output
from serving.client.replicas import Address, Replicas
from serving.tls import ClientTls
from serving.versions.model_config import ModelConfig, format_model_config, parse_model_config, read_model_config

_CONFIG_MAP = "lung-infection-models"  # of serving/k8s
_CONFIG_KEY = "models.config"
_PODS = "app.kubernetes.io/name=lung-infection"
_PORT = 8500
_FORWARDING = re.compile(r"^Forwarding from (127\.0\.0\.1:\d+) -> ", re.MULTILINE)
_TIMEOUT_S = 30.0


class ClusterReplicas(Replicas):
    """The serving pods of a namespace; use it in a `with` block.

    Args:
        namespace: the Kubernetes namespace.
        servers: addresses to ask instead of the pods.
        tls: certificates; None for plaintext.
        server_name: the name in the servers' certificates; by default that of their Service.
    """

    def __init__(
        self, namespace: str, servers: tuple[str, ...] = (), tls: ClientTls | None = None, server_name: str = ""
    ) -> None:
        super().__init__(servers, tls, server_name)
        self._namespace = namespace
        self._pod_name = server_name or f"lung-infection.{namespace}.svc"
        self._stack = ExitStack()
        self._logs = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
        self._forwards: dict[str, tuple[subprocess.Popen, str]] = {}  # process and address by pod

    def __exit__(self, *_: object) -> None:
        """End the forwarded ports."""
        self._stack.close()

    def fetch(self) -> list[ModelConfig]:
        """Read the models of the ConfigMap."""
        current = json.loads(self._kubectl("get", "configmap", _CONFIG_MAP, "-o", "json"))
        try:
            return parse_model_config(current["data"][_CONFIG_KEY])
        except (KeyError, ValueError) as error:
            raise InputError(f"ConfigMap {_CONFIG_MAP}: no valid {_CONFIG_KEY}: {error}; run `make deploy`") from error

    def publish(self, config_file: Path) -> str:
        """Apply the ConfigMap with the file's content, and each model's base of the ConfigMap.

        `make deploy MODEL_BASE=…` sets the base in the ConfigMap alone.
        """
        bases = {config.name: config.base for config in self.fetch()}
        text = format_model_config(
            replace(config, base=bases.get(config.name, config.base)) for config in read_model_config(config_file)
        )
        metadata = {"name": _CONFIG_MAP, "namespace": self._namespace}
        config_map = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {_CONFIG_KEY: text}}
        # A field manager of its own: with kubectl's, the labels that `make deploy` applied would be removed.
        options = "--server-side", "--force-conflicts", "--field-manager=lung-ct-versions"
        self._kubectl("apply", *options, "-f", "-", stdin=json.dumps(config_map))
        return text

    def addresses(self) -> dict[str, Address]:
        """Forward a port of each pod, ready or not: a pod that is starting must not miss a step."""
        if self._servers:
            return super().addresses()
        pods = json.loads(self._kubectl("get", "pods", "--selector", _PODS, "-o", "json"))["items"]
        names = [pod["metadata"]["name"] for pod in pods if _is_live(pod)]
        return {name: Address(self._forward(name), self._pod_name) for name in names}

    def _forward(self, pod: str) -> str:
        """Return the local address of a pod's port, or of nothing if the pod does not run."""
        process, address = self._forwards.get(pod, (None, ""))
        if process is not None and process.poll() is None:
            return address
        command = ["kubectl", f"--namespace={self._namespace}", "port-forward", f"pod/{pod}", f":{_PORT}"]
        # A file: kubectl writes a line for each connection, and would wait for a pipe that nobody reads.
        path = self._logs / pod
        with path.open("w") as log:
            process = subprocess.Popen(command, stdout=log, stderr=subprocess.DEVNULL)
        self._stack.callback(_end, process)
        deadline = time.monotonic() + _TIMEOUT_S
        while not (match := _FORWARDING.search(path.read_text())):
            if process.poll() is not None or time.monotonic() > deadline:
                return "127.0.0.1:1"  # UNAVAILABLE, like a server that restarts
            time.sleep(0.05)
        self._forwards[pod] = process, match[1]
        return match[1]

    def _kubectl(self, *arguments: str, stdin: str = "") -> str:
        command = ["kubectl", f"--namespace={self._namespace}", *arguments]
        return read_output(command, timeout_s=_TIMEOUT_S, stdin=stdin)


def _is_live(pod: dict[str, Any]) -> bool:
    """Whether a pod follows the ConfigMap: it has a node and neither ends nor has ended."""
    ended = pod["status"].get("phase") in ("Succeeded", "Failed") or "deletionTimestamp" in pod["metadata"]
    return "nodeName" in pod["spec"] and not ended


def _end(process: subprocess.Popen) -> None:
    process.terminate()
    process.wait()
