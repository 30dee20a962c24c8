"""The servers' part of a cluster check: a model beside the real one, its predictions, its labels, and its removal."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from components.ct.grid import axial_slices
from components.ct.phantom.cohort import write_cohort
from components.ct.volume import read_volume
from components.runtime.errors import InputError
from components.runtime.programs import read_output
from components.storage.gcs_uri import is_gcs_uri
from serving.client.kubectl import ClusterReplicas
from serving.client.promotion import promote, rollback, wait_for
from serving.client.replicas import reload, require_version
from serving.client.segmentation import SegmentationClient
from serving.tls import ClientTls
from serving.versions.labels import VersionLabels
from serving.versions.model_config import ModelConfig, write_model_config

_WHY = "check-cluster"
_SLICES = 4


@dataclass(frozen=True)
class Servers:
    """Where the servers are, and how to reach them; the options of `lung-ct check-cluster` describe them."""

    namespace: str
    addresses: tuple[str, ...] = ()  # host:port of every server; empty to forward a port of each pod
    tls: ClientTls | None = None
    server_name: str = ""
    timeout_s: float = 900.0


class ServedModel(AbstractContextManager["ServedModel"]):
    """A model that the servers serve during the check; use it in a `with` block, which closes forwarded ports."""

    def __init__(self, servers: Servers, model: str, base: str, scratch: Path) -> None:
        self._servers, self._model, self._base, self._scratch = servers, model, base, scratch
        self._config_file = scratch / "models.config"
        self._replicas = ClusterReplicas(servers.namespace, servers.addresses, servers.tls, servers.server_name)
        self._added = False

    def __exit__(self, *_: object) -> None:
        """Close forwarded ports."""
        self._replicas.__exit__()

    def add(self, version: int) -> str:
        """Add the model to the servers, wait until all have loaded the version, and have each segment slices."""
        self._added = True
        others = [config for config in self._replicas.fetch() if config.name != self._model]
        write_model_config(self._config_file, [*others, ModelConfig(self._model, self._base, (version,))])
        text = self._replicas.publish(self._config_file)
        failures = wait_for(
            self._replicas, lambda server: require_version(server, self._model, version), self._servers.timeout_s
        )
        if failures:
            refusals = self._replicas.failures(lambda server: reload(server, text))
            reasons = "; ".join(f"{name}: {refusals.get(name, error)}" for name, error in failures.items())
            raise InputError(f"version {version} is not available: {reasons}")
        return f"version {version} answers on {self.predict(version)} servers with finite probabilities"

    def move_labels(self, first: int, second: int) -> str:
        """Promote two versions and roll back, and have every server answer each label after each step."""
        labels = VersionLabels(self._config_file, self._model, self._local_base())
        options = {"why": _WHY, "replicas": self._replicas, "timeout_s": self._servers.timeout_s, "say": _ignore}
        for version, label in ((first, "stable"), (second, "canary"), (second, "stable")):
            self._refresh()
            promote(labels, version, label, **options)  # type: ignore[arg-type]
            self.predict(version, label)
        self._refresh()
        rollback(labels, "stable", **options)  # type: ignore[arg-type]
        self.predict(second, "canary")
        count = self.predict(first, "stable")
        return f"stable {first}, canary {second}, stable {second}, rollback to stable {first} on {count} servers"

    def predict(self, version: int, label: str | None = None) -> int:
        """Have every server segment slices with a version, by its label if given; return the number of servers."""
        slices_hu = self._phantom_slices()
        addresses = self._replicas.addresses()
        for name, address in addresses.items():
            selection = {"version": version} if label is None else {"version_label": label}
            with SegmentationClient(
                address.target, self._model, **selection, tls=self._servers.tls, server_name=address.certificate_name
            ) as client:
                probability, threshold, answered = client.predict_slices(slices_hu)
            if answered != version:
                raise InputError(f"{name}: {label or 'the request'} is answered by version {answered}, not {version}")
            if not (np.isfinite(probability).all() and 0 <= probability.min() <= probability.max() <= 1):
                raise InputError(f"{name}: probabilities outside 0 to 1, threshold {threshold:g}")
        return len(addresses)

    def remove(self) -> None:
        """Remove the model from the servers."""
        if self._added:
            others = [config for config in self._replicas.fetch() if config.name != self._model]
            write_model_config(self._config_file, others)
            self._replicas.publish(self._config_file)

    def _refresh(self) -> None:
        """Read the ConfigMap anew, in which other models may have changed."""
        write_model_config(self._config_file, self._replicas.fetch())

    def _local_base(self) -> str:
        """The versions as this machine can read them: a copy from a server if they are on a volume."""
        if is_gcs_uri(self._base) or Path(self._base).is_dir():
            return self._base
        pod = next(iter(self._replicas.addresses()))
        copy = self._scratch / "versions"
        read_output(["kubectl", f"--namespace={self._servers.namespace}", "cp", f"{pod}:{self._base}", str(copy)])
        return str(copy)

    def _phantom_slices(self) -> NDArray[np.int16]:
        folder = self._scratch / "phantom"
        if not folder.exists():
            write_cohort(folder, cases=1, seed=0)
        slices_hu = axial_slices(read_volume(next((folder / "scans").iterdir())).voxels)
        middle = len(slices_hu) // 2
        return slices_hu[middle : middle + _SLICES].astype(np.int16)


def _ignore(_: str) -> None:
    """Drop the progress of a promotion."""
