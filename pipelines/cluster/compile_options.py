"""Cluster settings of the steps: resources, timeouts, retries, caching, node pools, display names.

`for_cluster` rebuilds a pipeline with these settings; local runs use the original.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from kfp import dsl, kubernetes
from kfp.dsl import pipeline_context, tasks_group

from components.runtime.errors import InputError

_CHECK = "check-parameters"  # sees whatever the parameters name
_MODELS, _STEPS_WITH_MODELS = "/models", (_CHECK, "evaluate", "export", "predict")  # evaluate reads the champion
_CHECKPOINTS = "/checkpoints"
_DATA, _STEPS_WITH_SOURCE = "/data", (_CHECK, "identify", "ingest", "validate", "assign-folds", "plan-parts", "predict")
_CLIENT_LABEL = ("lung-infection-client", "true")  # admitted by the servers' NetworkPolicy
_STEPS_WITH_SECRET = (_CHECK, "identify", "ingest", "export")
# Kubeflow's cache key covers a step's image, parameters and artifact names, but no artifact content. Only ingest has
# parameters that determine its result: the digest of the source from identify is one of them.
_CACHED = "ingest"
# Argo retries only within this time from the first attempt's start, waits for a node included, and then ends a running
# attempt, too. The timeout and the number of retries are the limits of a step; this is longer than all of them.
_RETRY_WINDOW = "52 weeks"


@dataclass(frozen=True)
class StepSettings:
    """Kubernetes settings of one step; `cpu` (a worker per core) and `memory` are requests and limits.

    `timeout_s` limits one attempt. It counts from the pod's start, so it includes pulling the image.
    """

    display_name: str
    cpu: str
    memory: str
    timeout_s: int
    retries: int


_STEPS: Mapping[str, StepSettings] = MappingProxyType(
    {
        _CHECK: StepSettings("Check parameters", "500m", "1G", 1800, retries=1),
        "identify": StepSettings("Fingerprint source", "500m", "1G", 1800, retries=3),
        "ingest": StepSettings("Ingest cohort", "1", "4G", 6 * 3600, retries=3),
        "validate": StepSettings("Validate cohort", "2", "8G", 2 * 3600, retries=1),
        "require-valid": StepSettings("Require valid cohort", "100m", "1G", 1800, retries=1),
        "slice": StepSettings("Slice volumes", "2", "8G", 4 * 3600, retries=1),
        "train": StepSettings("Train U-Net", "4", "16G", 24 * 3600, retries=1),
        "evaluate": StepSettings("Evaluate on native grids", "2", "8G", 4 * 3600, retries=1),
        "view-3d": StepSettings("Render worst case in 3-D", "2", "8G", 3600, retries=1),
        "export": StepSettings("Export model version", "2", "8G", 3600, retries=2),
        "register-model": StepSettings("Register model version", "100m", "1G", 1800, retries=3),
        "report-refusal": StepSettings("Report refusal", "100m", "1G", 1800, retries=1),
        "assign-folds": StepSettings("Assign folds", "500m", "1G", 1800, retries=2),
        "select-fold": StepSettings("Select fold", "1", "4G", 3600, retries=2),
        "summarize-folds": StepSettings("Summarize folds", "1", "4G", 1800, retries=2),
        "plan-parts": StepSettings("Plan parts", "500m", "1G", 1800, retries=2),
        "predict": StepSettings("Predict part", "2", "8G", 12 * 3600, retries=2),
        "fail-once": StepSettings("Fail once", "100m", "1G", 1800, retries=1),  # of check-cluster
        "collect-predictions": StepSettings("Collect predictions", "1", "4G", 2 * 3600, retries=1),
    }
)


@dataclass(frozen=True)
class ClusterOptions:
    """Settings of a compilation; the options of `lung-ct compile` describe them."""

    cpu: Mapping[str, str] = field(default_factory=dict)
    memory: Mapping[str, str] = field(default_factory=dict)
    gpus: int = 0
    gpu_type: str = "nvidia.com/gpu"
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerate: tuple[str, ...] = ()
    model_claim: str | None = None
    checkpoint_claim: str | None = None
    data_claim: str | None = None
    secret: str | None = None
    image_pull_secret: str | None = None
    caching: bool = True


def for_cluster(
    pipeline: dsl.graph_component.GraphComponent, options: ClusterOptions | None = None
) -> dsl.graph_component.GraphComponent:
    """Rebuild a pipeline with cluster settings on its tasks, without changing the original.

    Raises:
        InputError: the options name an unknown step.
    """
    options = options or ClusterOptions()
    if unknown := {*options.cpu, *options.memory} - {*_STEPS}:
        raise InputError(f"{', '.join(sorted(unknown))}: unknown step; expected one of {', '.join(_STEPS)}")
    build = pipeline.pipeline_func

    @functools.wraps(build)
    def build_for_cluster(*args: object, **kwargs: object) -> object:
        outputs = build(*args, **kwargs)
        context = pipeline_context.Pipeline.get_default_pipeline()
        for task in context.tasks.values():
            _configure(task, options)
        _name_branches(context.groups[0])
        return outputs

    return dsl.pipeline(name=pipeline.name, description=pipeline.description)(build_for_cluster)


def _name_branches(group: tasks_group.TasksGroup) -> None:
    """Name each group of branches by its branches; kfp has no other way to name it."""
    for child in group.groups:
        _name_branches(child)
        if isinstance(child, tasks_group.ConditionBranches):
            child.display_name = " or ".join(branch.display_name for branch in child.groups)


def _configure(task: dsl.PipelineTask, options: ClusterOptions) -> None:
    name = task.component_spec.name
    step = _STEPS[name]
    cpu, memory = options.cpu.get(name, step.cpu), options.memory.get(name, step.memory)
    task.set_display_name(step.display_name)
    task.set_cpu_request(cpu).set_cpu_limit(cpu).set_memory_request(memory).set_memory_limit(memory)
    task.set_caching_options(options.caching and name == _CACHED)
    task.set_retry(step.retries, backoff_duration="30s", backoff_factor=2, backoff_max_duration=_RETRY_WINDOW)
    kubernetes.set_timeout(task, step.timeout_s)
    kubernetes.empty_dir_mount(task, volume_name="tmp", mount_path="/tmp")
    if name == "train":
        _configure_train_nodes(task, options)
    if name == _CHECK:
        task.set_env_variable("TRAIN_GPUS", str(options.gpus))
    if options.checkpoint_claim and (name == "train" or (name == _CHECK and "checkpoint_dir" in task.inputs)):
        kubernetes.mount_pvc(task, pvc_name=options.checkpoint_claim, mount_path=_CHECKPOINTS)
    if name == "predict":
        kubernetes.add_pod_label(task, *_CLIENT_LABEL)
    if options.model_claim and name in _STEPS_WITH_MODELS:
        kubernetes.mount_pvc(task, pvc_name=options.model_claim, mount_path=_MODELS)
    if options.data_claim and name in _STEPS_WITH_SOURCE:
        kubernetes.mount_pvc(task, pvc_name=options.data_claim, mount_path=_DATA)
    if options.secret and name in _STEPS_WITH_SECRET:
        kubernetes.use_secret_as_volume(task, secret_name=options.secret, mount_path=f"/run/secrets/{options.secret}")
    if options.image_pull_secret:
        kubernetes.set_image_pull_secrets(task, [options.image_pull_secret])


def _configure_train_nodes(task: dsl.PipelineTask, options: ClusterOptions) -> None:
    """Request GPUs, and the nodes that have them."""
    taints = dict.fromkeys(options.tolerate)
    if options.gpus:
        task.set_accelerator_type(options.gpu_type).set_accelerator_limit(options.gpus)
        taints[options.gpu_type] = None
    for label, value in options.node_selector.items():
        kubernetes.add_node_selector(task, label_key=label, label_value=value)
    for key in taints:
        kubernetes.add_toleration(task, key=key, operator="Exists", effect="NoSchedule")
