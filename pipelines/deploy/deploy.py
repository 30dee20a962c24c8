"""One command to a cluster: build, push, compile, upload, apply, each idempotent; and the way back; and a doctor.

python -m pipelines.deploy up --registry europe-docker.pkg.dev/my-project/lung-ct --host https://kubeflow.example
python -m pipelines.deploy up --dry-run …     prints every command, and checks what can be checked here
python -m pipelines.deploy down               takes serving away; models, volumes and the namespace stay
python -m pipelines.deploy doctor             says what is missing, and how to get it
"""

import argparse
import shlex
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import yaml  # type: ignore[import-untyped]

from components.runtime.errors import InputError, exit_on_input_error
from components.runtime.files import atomic_write
from pipelines.cluster.connection import Cluster
from pipelines.cluster.runs import package_version, upload
from pipelines.deploy.deployment import NAMESPACE, OPTIONS, OVERLAYS, Deployment, revision
from pipelines.deploy.serving_manifests import removable, render, schema_mistakes
from pipelines.deploy.shell import output, run, show
from pipelines.parameters import PIPELINES

STEPS = ("build", "push", "compile", "upload", "serving")


def build_commands(deployment: Deployment) -> list[list[str]]:
    """Commands that build the images, each under the revision's name, and under the one that runs here use."""
    arguments = [word for name, value in deployment.build_arguments().items() for word in _build_arg(name, value)]
    return [
        [
            *(deployment.engine, "build", "-f", "images/Dockerfile", "--target", kind, *arguments),
            *("-t", deployment.image(kind), "-t", f"localhost/lung-ct-python:{kind}", "."),
        ]
        for kind in deployment.kinds
    ]


def _build_arg(name: str, value: str) -> tuple[str, str]:
    return "--build-arg", f"{name}={value}"


def push_commands(deployment: Deployment) -> list[list[str]]:
    """Commands that push them; a layer that is there is not sent again."""
    return [[deployment.engine, "push", deployment.image(kind)] for kind in deployment.kinds]


def compile_command(deployment: Deployment, build: Path) -> tuple[list[str], dict[str, str]]:
    """The command that compiles the packages, and the images it is told of by environment."""
    images = {"CPU_IMAGE": deployment.image("cpu"), "DATA_IMAGE": deployment.image("data")}
    command = [sys.executable, "-m", "pipelines.cli", "compile", "-o", str(build)]
    if deployment.gpus:
        images["TRAIN_IMAGE"] = deployment.image("gpu")
        command += ["--gpus", str(deployment.gpus)]
    if deployment.model_claim:
        command += ["--model-claim", deployment.model_claim]
    return command + shlex.split(deployment.compile_with), images


def up(deployment: Deployment, build: Path, skip: Sequence[str] = (), dry_run: bool = False) -> None:
    """Bring everything there; a repeated or interrupted call ends in the same state.

    Raises:
        InputError: a step failed; the later ones were not begun.
    """
    deployment.checked()
    if deployment.revision.endswith("-dirty") and "push" not in skip and deployment.registry and not dry_run:
        # Nodes keep an image by its tag: under the same one, changed code would silently not run.
        raise InputError("files differ from the last commit; commit them, or name the images by --revision")
    act = show if dry_run else run
    steps: dict[str, Callable[[], None]] = {
        "build": lambda: _each(build_commands(deployment), act),
        "push": lambda: _push(deployment, act),
        "compile": lambda: act(*compile_command(deployment, build.absolute())),
        "upload": lambda: (
            _would_upload(deployment, build, "compile" in skip) if dry_run else _upload(deployment, build)
        ),
        "serving": lambda: _apply(deployment, build / "serving", dry_run),
    }
    for name in STEPS:
        if name in skip:
            print(f"── {name}: skipped", flush=True)
            continue
        print(f"── {name}", flush=True)
        steps[name]()


def down(deployment: Deployment, build: Path, dry_run: bool = False) -> None:
    """Take serving away; what is gone already is no failure, and models, volumes and the namespace stay.

    Raises:
        InputError: kubectl refuses.
    """
    objects = removable(render(deployment.checked(), build / "serving"))
    path = build / "serving" / "removable.yaml"
    with atomic_write(path) as temporary:
        temporary.write_text(yaml.safe_dump_all(objects))
    command = ["kubectl", "delete", "--ignore-not-found", "--wait", "-f", str(path)]
    (show if dry_run else run)(command)
    print("kept: the namespace, the volume claims, the pipeline's versions and every model version")


def _push(deployment: Deployment, act: Callable[[list[str]], None]) -> None:
    if not deployment.registry:
        print("  no registry given: the images stay on this machine", flush=True)
        return
    _each(push_commands(deployment), act)


def _each(commands: list[list[str]], act: Callable[[list[str]], None]) -> None:
    for command in commands:
        act(command)


def _upload(deployment: Deployment, build: Path) -> None:
    cluster = Cluster(deployment.host, deployment.kfp_namespace, deployment.token_file)
    for name in PIPELINES:
        uploaded = upload(cluster, build / f"{name}.yaml")
        new = "uploaded" if uploaded.is_new else "was there already"
        print(f"  {name}: version {uploaded.version} {new}", flush=True)


def _would_upload(deployment: Deployment, build: Path, as_it_lies: bool) -> None:
    """Say which versions `_upload` stores: of the packages as they lie there, or as they would be compiled."""
    with tempfile.TemporaryDirectory() as scratch:
        if not as_it_lies:
            build = Path(scratch)
            output(*compile_command(deployment, build))
        for name in PIPELINES:
            version = package_version(build / f"{name}.yaml")
            print(f"  would upload {name} to {deployment.host or 'the cluster of kubectl'} as version {version}")


def _apply(deployment: Deployment, folder: Path, dry_run: bool) -> None:
    objects = render(deployment, folder)
    command = ["kubectl", "apply", "--server-side", "--force-conflicts", "-k", str(folder)]
    if not dry_run:
        run(command)
        if deployment.overlay != "kserve":
            name = f"--namespace={deployment.namespace}"
            run(["kubectl", "rollout", "status", name, "deployment/lung-infection", "--timeout=15m"])
        return
    show(command)
    for item in objects:
        print(f"    {item['kind']} {item['metadata'].get('namespace', '')}/{item['metadata']['name']}")
    if mistakes := schema_mistakes(objects):
        raise InputError("serving: " + "; ".join(mistakes))


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the command line and do what it says."""
    from pipelines.deploy.doctor import report

    arguments = _parser().parse_args(argv)
    with exit_on_input_error():
        deployment = _deployment(arguments)
        if arguments.command == "down":
            down(deployment, arguments.build, arguments.dry_run)
        elif arguments.command == "doctor":
            sys.exit(0 if report(deployment) else 1)
        else:
            up(deployment, arguments.build, arguments.skip, arguments.dry_run)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m pipelines.deploy", description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    helps = {
        "up": "build, push, compile, upload and apply",
        "down": "take serving away; models stay",
        "doctor": "say what is missing, and how to get it",
    }
    for name, text in helps.items():
        command = commands.add_parser(name, help=text)
        _add_values(command)
        if name != "doctor":
            command.add_argument("--build", type=Path, default=Path("build"), help="folder (default: %(default)s)")
            command.add_argument("--dry-run", action="store_true", help="print what would be done, and check it")
        if name == "up":
            command.add_argument("--skip", nargs="*", default=[], choices=STEPS, metavar="STEP", help=", ".join(STEPS))
    return parser


def _add_values(command: argparse.ArgumentParser) -> None:
    command.add_argument("--engine", default="docker", choices=("docker", "podman"))
    command.add_argument("--registry", default="", help="where images go, such as europe-docker.pkg.dev/name/lung-ct")
    command.add_argument("--revision", default="", help="tag of the images (default: the git revision)")
    command.add_argument("--python-image", help="what they are built on (default: as the Dockerfile says)")
    command.add_argument("--host", help="address of the Kubeflow Pipelines API (default: as kubectl is set up)")
    command.add_argument("--kfp-namespace", default="", help="your namespace, where Kubeflow has several users")
    command.add_argument("--token-file", type=Path, help="file with a bearer token for it")
    command.add_argument("--overlay", default="local", choices=OVERLAYS, help="how to serve (default: %(default)s)")
    command.add_argument("--options", nargs="*", default=[], choices=OPTIONS, metavar="OPTION", help=", ".join(OPTIONS))
    command.add_argument("--namespace", default=NAMESPACE, help="where to serve (default: %(default)s)")
    command.add_argument("--model-base", help="folder of the model's versions, such as gs://bucket/lung-infection")
    command.add_argument("--gcp-service-account", help="who reads it (workload identity)")
    command.add_argument("--serving-digest", help="content of the tensorflow/serving image, sha256:…")
    command.add_argument("--gpus", type=int, default=0, help="GPUs for the train step (default: %(default)s)")
    command.add_argument("--model-claim", help="volume claim that the pipeline exports to (overlay local)")
    command.add_argument(
        "--compile-with", default="", metavar="WORDS", help="further options of `python -m pipelines.cli compile`"
    )


def _deployment(arguments: argparse.Namespace) -> Deployment:
    given = {name: value for name, value in vars(arguments).items() if name in Deployment.__dataclass_fields__}
    return Deployment(**given | {"options": tuple(arguments.options), "revision": arguments.revision or revision()})


if __name__ == "__main__":
    main()
