"""The settings of a deployment: images, cluster and serving."""

import importlib.metadata
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from components.runtime.errors import InputError
from components.runtime.programs import read_output

if TYPE_CHECKING:
    from pipelines.cluster.connection import Cluster

Engine = Literal["docker", "podman"]
Overlay = Literal["local", "gcs", "gpu", "kserve"]
Option = Literal["tls", "monitoring", "batching"]
ImageKind = Literal["data", "cpu", "gpu"]
Stage = Literal["build", "push", "compile", "upload", "claims", "serving"]
STAGES: tuple[Stage, ...] = get_args(Stage)
NAMESPACE = "lung-infection"
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True)
class Deployment:
    """Settings of a deployment; the options of `lung-ct deploy` describe them.

    Raises:
        InputError: settings are invalid or contradict each other.
    """

    engine: Engine = "docker"
    registry: str | None = None
    revision: str = "latest"
    python_image: str | None = None
    host: str | None = None
    kfp_namespace: str | None = None
    token_file: Path | None = None
    username: str | None = None
    password_file: Path | None = None
    ca_file: Path | None = None
    overlay: Overlay = "local"
    options: tuple[Option, ...] = ()
    namespace: str = NAMESPACE
    model_base: str | None = None
    gcp_service_account: str | None = None
    serving_digest: str | None = None
    gpus: int = 0
    model_claim: str | None = None
    checkpoint_claim: str | None = None
    data_claim: str | None = None
    image_pull_secret: str | None = None
    compile_with: str = ""

    def __post_init__(self) -> None:
        """Validate the settings."""
        if self.overlay == "kserve" and self.options:
            raise InputError(f"options {', '.join(self.options)}: not supported by overlay kserve; omit them")
        if self.serving_digest and not _DIGEST.fullmatch(self.serving_digest):
            raise InputError(f"serving digest {self.serving_digest!r}: expected sha256: and 64 hexadecimal digits")
        if self.model_base is not None and (self.overlay == "local") == self.model_base.startswith("gs://"):
            expected = "a folder on the model volume" if self.overlay == "local" else "gs://bucket/prefix"
            raise InputError(f"model base {self.model_base}: overlay {self.overlay} expects {expected}")

    @property
    def cluster(self) -> "Cluster":
        """The Kubeflow Pipelines API."""
        from pipelines.cluster.connection import Cluster  # imports kfp

        return Cluster(
            self.host,
            self.kfp_namespace,
            token_file=self.token_file,
            ca_file=self.ca_file,
            username=self.username,
            password_file=self.password_file,
        )

    @property
    def runs_namespace(self) -> str:
        """Namespace of the pipelines' pods and of the claims they mount."""
        return self.kfp_namespace or "kubeflow"

    @property
    def kinds(self) -> tuple[ImageKind, ...]:
        """Kinds of images to build, the Dockerfile's targets."""
        return ("data", "cpu", "gpu") if self.gpus else ("data", "cpu")

    def image(self, kind: ImageKind) -> str:
        """Reference of an image in the registry."""
        return f"{(self.registry or 'localhost').rstrip('/')}/lung-ct-python:{kind}-{self.revision}"

    def build_arguments(self) -> dict[str, str]:
        """Arguments of the Dockerfile: its labels and its base image."""
        arguments = {"REVISION": self.revision, "VERSION": importlib.metadata.version("lung-ct-pipelines")}
        if origin := _git_origin():
            arguments["SOURCE"] = origin
        if self.python_image:
            arguments["PYTHON_IMAGE"] = self.python_image
        return arguments


def git_revision() -> str:
    """The commit's short hash, with the suffix -dirty if files differ from it; "unversioned" outside git."""
    try:
        return read_output(["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]).strip()
    except InputError:
        return "unversioned"


def _git_origin() -> str | None:
    """URL of the remote, without user name and token, or None."""
    try:
        url = read_output(["git", "remote", "get-url", "origin"]).strip()
    except InputError:
        return None
    return re.sub(r"//[^/@]*@", "//", url)
