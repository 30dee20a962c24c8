"""The KFP interface of the check-parameters step."""

from typing import List, Optional  # noqa: UP035 - kfp reads no other spelling

from kfp import dsl

from components import images


@dsl.component(base_image=images.DATA, install_kfp_package=False)
def check_parameters(
    model_base: Optional[str] = None,  # noqa: UP045
    model_name: Optional[str] = None,  # noqa: UP045
    source: Optional[str] = None,  # noqa: UP045
    masks: Optional[str] = None,  # noqa: UP045
    label: int = 0,
    on_invalid: Optional[str] = None,  # noqa: UP045
    pseudonym_key_file: Optional[str] = None,  # noqa: UP045
    cache: Optional[str] = None,  # noqa: UP045
    push_to: Optional[str] = None,  # noqa: UP045
    reference_profile: Optional[str] = None,  # noqa: UP045
    image_size: int = 128,
    min_lesion_pixels: int = 0,
    preset: Optional[str] = None,  # noqa: UP045
    epochs: int = 0,
    batch_size: int = 0,
    changes: Optional[dict] = None,  # noqa: UP045
    require_gpu: Optional[bool] = None,  # noqa: UP045
    checkpoint_dir: Optional[str] = None,  # noqa: UP045
    min_dice: Optional[float] = None,  # noqa: UP045
    min_dice_ci: Optional[float] = None,  # noqa: UP045
    min_case_dice: Optional[float] = None,  # noqa: UP045
    min_site_dice: Optional[float] = None,  # noqa: UP045
    max_false_positive_ml: Optional[float] = None,  # noqa: UP045
    max_regression: Optional[float] = None,  # noqa: UP045
    hard_cases: Optional[List[str]] = None,  # noqa: UP006, UP045
    data_license: Optional[str] = None,  # noqa: UP045
    view_3d: Optional[bool] = None,  # noqa: UP045
    signing_key_file: Optional[str] = None,  # noqa: UP045
    model_registry: Optional[str] = None,  # noqa: UP045
    seed: int = 0,
    folds: int = 5,
    folds_file: Optional[str] = None,  # noqa: UP045
    server: Optional[str] = None,  # noqa: UP045
    model: Optional[str] = None,  # noqa: UP045
    version_label: Optional[str] = None,  # noqa: UP045
    parts: int = 4,
    min_lesion_ml: Optional[float] = None,  # noqa: UP045
) -> None:
    """Check all parameters of a pipeline, and that the run can read and write what they name.

    Every finding is a line of the log. An input that is not given is not a parameter of the pipeline: None is not
    checked, and whole numbers have valid defaults, because kfp 2.17.0's local runner fails at None for one.
    On a cluster, `compile` sets TRAIN_GPUS, the number of GPUs that the train step requests.

    Args:
        model_base: Folder of versions or gs://bucket/prefix; must be writable.
        model_name: A name that TensorFlow Serving and Kubernetes accept.
        source: Scans, with masks if `masks` is given; a folder must exist.
        masks: Name of the folder of masks.
        label: 0 to 255.
        on_invalid: fail or skip.
        pseudonym_key_file: A readable key; empty for none.
        cache: A writable folder; empty for none.
        push_to: A writable gs://bucket/prefix; empty for none.
        reference_profile: A folder or gs://bucket/prefix with a readable profile; empty for none.
        image_size: A multiple of 16 up to 1024.
        min_lesion_pixels: 0 or more.
        preset: Name of a training recipe.
        epochs: 0 or more.
        batch_size: 0 to 65536.
        changes: Settings of the recipe.
        require_gpu: Whether the machine, or the compiled train step, must have a GPU.
        checkpoint_dir: A writable folder; empty for none.
        min_dice: 0 to 1, as the next three.
        min_dice_ci: See min_dice.
        min_case_dice: See min_dice.
        min_site_dice: See min_dice.
        max_false_positive_ml: 0 mL or more.
        max_regression: 0 to 1.
        hard_cases: Case ids; the validate step finds unknown ones.
        data_license: Any text.
        view_3d: true or false.
        signing_key_file: A readable elliptic curve key without passphrase; empty for none.
        model_registry: Address at which a Model Registry answers; empty for none.
        seed: 0 to 4294967295.
        folds: 3 or more.
        folds_file: A readable JSON list of 3 or more folds; empty for none.
        server: host:port; exactly one of server and model.
        model: A model base with a version, or a version folder.
        version_label: A version label on the server; empty for none.
        parts: 1 or more.
        min_lesion_ml: 0 or more.
    """
    parameters = {name: value for name, value in locals().items() if value is not None}
    import os
    import re

    from components.runtime.step import step_process

    with step_process():
        from components.check_parameters.check import check_parameters
        from components.runtime.errors import InputError

        gpus = os.environ.get("TRAIN_GPUS", "")
        if not re.fullmatch("[0-9]{0,4}", gpus):
            raise InputError(f"TRAIN_GPUS: {gpus[:40]!r}; expected the number of GPUs that `compile` sets; unset it")
        check_parameters(parameters, gpus=int(gpus) if gpus else None)
