"""What a cluster is told about the steps beyond the picture in `training.py`: resources, retries, caching, pools.

The pipeline itself stays as it reads, and as it runs on one machine; `for_cluster` builds it anew with settings on
its tasks and an exit handler around them.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from kfp import dsl, kubernetes
from kfp.dsl import pipeline_context

from components.runtime.errors import InputError
from components.summarize_run.component import summarize_run

_TMP = "/tmp"
_MODELS, _STEPS_WITH_MODELS = "/models", ("evaluate", "export", "predict")  # evaluate reads the served version
_CHECKPOINTS = "/checkpoints"
_SERVERS_CLIENT = ("lung-infection-client", "true")  # whom the servers' NetworkPolicy lets in
_STEPS_WITH_SECRET = ("identify", "ingest", "export")
# Kubeflow's key holds a step's image, parameters and names of input artifacts, but nobody's content. Ingest alone has
# parameters that tell all that goes into it, since identify's digest of the source is among them.
_CACHED = "ingest"


@dataclass(frozen=True)
class Step:
    """What one step needs.

    Attributes:
        shown: its name in the UI.
        cpu: cores requested, and the limit: steps take as many workers as it allows, and memory for each.
        memory: requested, and the limit.
        timeout_s: the pod is ended after that.
        retries: how often it is tried again. Steps write whole outputs under final names, or none.
    """

    shown: str
    cpu: str
    memory: str
    timeout_s: int
    retries: int


_STEPS: Mapping[str, Step] = MappingProxyType(
    {
        "identify": Step("See what the source holds", "500m", "1G", 1800, retries=3),
        "ingest": Step("Ingest scans and masks", "1", "4G", 6 * 3600, retries=3),
        "validate": Step("Validate the cohort", "2", "8G", 2 * 3600, retries=1),
        "require-valid": Step("Stop at an invalid cohort", "100m", "1G", 600, retries=1),
        "slice": Step("Slice to the network's grid", "2", "8G", 4 * 3600, retries=1),
        "train": Step("Train the U-Net", "4", "16G", 24 * 3600, retries=1),
        "evaluate": Step("Evaluate on native grids", "2", "8G", 4 * 3600, retries=1),
        "view-3d": Step("Show the worst case in 3-D", "2", "8G", 3600, retries=1),
        "export": Step("Export the model version", "2", "8G", 3600, retries=2),
        "report-refusal": Step("Say why nothing is exported", "100m", "1G", 600, retries=1),
        "assign-folds": Step("Deal the cases out to folds", "500m", "1G", 1800, retries=2),
        "select-fold": Step("Take one fold for the test", "1", "4G", 3600, retries=2),
        "summarize-folds": Step("Put the folds together", "1", "4G", 1800, retries=2),
        "plan-parts": Step("Deal the scans out", "500m", "1G", 1800, retries=2),
        "predict": Step("Segment a part of the scans", "2", "8G", 12 * 3600, retries=2),
        "collect-predictions": Step("Bring the parts together", "1", "4G", 2 * 3600, retries=1),
    }
)


@dataclass(frozen=True)
class ClusterOptions:
    """How the pipeline is compiled for a cluster.

    Attributes:
        cpu: cores by step, such as {"slice": "16"}, where the usual number does not suit a cohort.
        memory: memory by step, such as {"slice": "64G"}.
        gpus: GPUs for the train step; 0 trains on processors.
        gpu_type: the resource that the GPUs are, such as nvidia.com/gpu.
        node_selector: labels of the train step's nodes.
        tolerate: keys of the taints that the train step's pods tolerate; the GPU's own is always among them.
        model_claim: a volume claim for served models, mounted as /models in the steps that read or write them; None
            where they go to a bucket.
        checkpoint_claim: a volume claim mounted as /checkpoints in the train step, for its `checkpoint_dir`: what a
            retried or preempted training goes on from; None has it begin anew.
        secret: a Secret with keys, mounted for identify, ingest and export under /run/secrets/<its name>, or None.
        image_pull_secret: a Secret to fetch the images with, or None.
        caching: whether ingest may take an earlier run's cases where the source has not changed.
        exit_handler: whether a last step sums the run up, however it ended.
    """

    cpu: Mapping[str, str] = field(default_factory=dict)
    memory: Mapping[str, str] = field(default_factory=dict)
    gpus: int = 0
    gpu_type: str = "nvidia.com/gpu"
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerate: tuple[str, ...] = ()
    model_claim: str | None = None
    checkpoint_claim: str | None = None
    secret: str | None = None
    image_pull_secret: str | None = None
    caching: bool = True
    exit_handler: bool = True


def for_cluster(
    pipeline: dsl.graph_component.GraphComponent, options: ClusterOptions | None = None
) -> dsl.graph_component.GraphComponent:
    """Build a pipeline anew with a cluster's settings on its tasks; the one given stays as it is.

    Args:
        pipeline: what `dsl.pipeline` made.
        options: the settings.

    Raises:
        InputError: there is no such step.
    """
    options = options or ClusterOptions()
    if unknown := {*options.cpu, *options.memory} - {*_STEPS}:
        raise InputError(f"{', '.join(sorted(unknown))}: no such step; expected one of {', '.join(_STEPS)}")
    draw = pipeline.pipeline_func

    @functools.wraps(draw)
    def on_cluster(*inputs: object, **named: object) -> object:
        if options.exit_handler:
            summary = summarize_run(pipeline=pipeline.name)
            with dsl.ExitHandler(summary, name="run"):
                outputs = draw(*inputs, **named)
        else:
            outputs = draw(*inputs, **named)
        for task in pipeline_context.Pipeline.get_default_pipeline().tasks.values():
            _settle(task, options)
        return outputs

    return dsl.pipeline(name=pipeline.name, description=pipeline.description)(on_cluster)


def _settle(task: dsl.PipelineTask, options: ClusterOptions) -> None:
    """Set on a task what its step needs."""
    kind = task.component_spec.name
    if kind == "summarize-run":
        task.set_display_name("Sum the run up").set_caching_options(False)
        task.set_cpu_request("100m").set_memory_request("256M").set_memory_limit("1G")
        return
    step = _STEPS[kind]
    task.set_display_name(step.shown)
    memory = options.memory.get(kind, step.memory)
    cpu = options.cpu.get(kind, step.cpu)
    task.set_cpu_request(cpu).set_cpu_limit(cpu).set_memory_request(memory).set_memory_limit(memory)
    task.set_caching_options(options.caching and kind == _CACHED)
    kubernetes.set_timeout(task, step.timeout_s)
    kubernetes.empty_dir_mount(task, volume_name="tmp", mount_path=_TMP)
    task.set_retry(step.retries, backoff_duration="30s", backoff_factor=2, backoff_max_duration="600s")
    if kind == "train":
        _send_to_pool(task, options)
        if options.checkpoint_claim:
            kubernetes.mount_pvc(task, pvc_name=options.checkpoint_claim, mount_path=_CHECKPOINTS)
    if kind == "predict":
        kubernetes.add_pod_label(task, *_SERVERS_CLIENT)
    if options.model_claim and kind in _STEPS_WITH_MODELS:
        kubernetes.mount_pvc(task, pvc_name=options.model_claim, mount_path=_MODELS)
    if options.secret and kind in _STEPS_WITH_SECRET:
        kubernetes.use_secret_as_volume(task, secret_name=options.secret, mount_path=f"/run/secrets/{options.secret}")
    if options.image_pull_secret:
        kubernetes.set_image_pull_secrets(task, [options.image_pull_secret])


def _send_to_pool(task: dsl.PipelineTask, options: ClusterOptions) -> None:
    """Ask for GPUs and the nodes that have them."""
    tolerate = list(options.tolerate)
    if options.gpus:
        task.set_accelerator_type(options.gpu_type).set_accelerator_limit(options.gpus)
        if options.gpu_type not in tolerate:
            tolerate.append(options.gpu_type)
    for label, value in options.node_selector.items():
        kubernetes.add_node_selector(task, label_key=label, label_value=value)
    for key in tolerate:
        kubernetes.add_toleration(task, key=key, operator="Exists", effect="NoSchedule")
