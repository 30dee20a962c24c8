"""What a deployment is: the images, the cluster and the serving that one command brings there."""

import importlib.metadata
import re
from dataclasses import dataclass
from pathlib import Path

from components.runtime.errors import InputError
from pipelines.deploy.shell import output

OVERLAYS = ("local", "gcs", "gpu", "kserve")
OPTIONS = ("tls", "monitoring", "batching")
NAMESPACE = "lung-infection"
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True)
class Deployment:
    """What is deployed, and where.

    Attributes:
        engine: docker or podman.
        registry: where images go, such as europe-docker.pkg.dev/my-project/lung-ct; empty keeps them here.
        revision: tag of the images: the git revision, `-dirty` behind it where files differ.
        python_image: what the images are built on, such as one pinned by digest; None for what the Dockerfile says.
        host: address of the Kubeflow Pipelines API; None for the cluster kubectl is set up for.
        kfp_namespace: the user's namespace in Kubeflow; empty for a single user's.
        token_file: file with a bearer token for it.
        overlay: how serving is deployed.
        options: components added to the overlay.
        namespace: where serving runs.
        model_base: gs:// folder of the model's versions; None for what the overlay says.
        gcp_service_account: who reads it; None for what the overlay says.
        serving_digest: content of the serving image, sha256:…; None for its tag alone.
        gpus: GPUs for the train step; with some, the GPU image is built too.
        model_claim: volume claim that the pipeline's export writes to; None where models go to a bucket.
        compile_with: further options of `pipelines.cli compile`, as a shell takes them.
    """

    engine: str = "docker"
    registry: str = ""
    revision: str = "latest"
    python_image: str | None = None
    host: str | None = None
    kfp_namespace: str = ""
    token_file: Path | None = None
    overlay: str = "local"
    options: tuple[str, ...] = ()
    namespace: str = NAMESPACE
    model_base: str | None = None
    gcp_service_account: str | None = None
    serving_digest: str | None = None
    gpus: int = 0
    model_claim: str | None = None
    compile_with: str = ""

    def checked(self) -> "Deployment":
        """Refuse what cannot work.

        Raises:
            InputError: a value is none of those allowed; what to give instead.
        """
        if self.overlay not in OVERLAYS:
            raise InputError(f"overlay {self.overlay!r}: expected one of {', '.join(OVERLAYS)}")
        if unknown := set(self.options) - set(OPTIONS):
            raise InputError(f"option {', '.join(sorted(unknown))}: expected some of {', '.join(OPTIONS)}")
        if self.overlay == "kserve" and self.options:
            raise InputError("options go with the overlays local, gcs and gpu; KServe brings its own")
        if self.serving_digest and not _DIGEST.fullmatch(self.serving_digest):
            raise InputError(f"serving digest {self.serving_digest!r}: expected sha256: and 64 hexadecimal digits")
        if self.model_base is not None and (self.overlay == "local") == self.model_base.startswith("gs://"):
            raise InputError(f"model base {self.model_base}: overlay local takes a folder of its volume, others gs://…")
        return self

    @property
    def kinds(self) -> tuple[str, ...]:
        """The images that are built, as the Dockerfile calls its targets."""
        return ("data", "cpu", "gpu") if self.gpus else ("data", "cpu")

    def image(self, kind: str) -> str:
        """Reference of an image of ours."""
        return f"{self.registry.rstrip('/') or 'localhost'}/lung-ct-python:{kind}-{self.revision}"

    def build_arguments(self) -> dict[str, str]:
        """What the Dockerfile is told: its labels, and what it builds on."""
        arguments = {"REVISION": self.revision, "VERSION": importlib.metadata.version("lung-ct-pipelines")}
        if source := _source():
            arguments["SOURCE"] = source
        if self.python_image:
            arguments["PYTHON_IMAGE"] = self.python_image
        return arguments


def revision() -> str:
    """The git revision that images are tagged with; `-dirty` where files differ from it."""
    try:
        return output(["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]).strip()
    except InputError:
        return "unversioned"


def _source() -> str:
    """Where the code comes from, by git's word and without a user's name or token; empty where git knows none."""
    try:
        address = output(["git", "remote", "get-url", "origin"]).strip()
    except InputError:
        return ""
    return re.sub(r"//[^/@]*@", "//", address)
