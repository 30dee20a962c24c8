"""The KFP interface of the slice step."""

from kfp import dsl

from components import images


@dsl.component(base_image=images.CPU, install_kfp_package=False)
def slice(
    cases: dsl.Input[dsl.Dataset],
    accepted: dsl.Input[dsl.Dataset],
    shards: dsl.Output[dsl.Dataset],
    image_size: int = 128,
    min_lesion_pixels: int = 0,
    seed: int = 0,
) -> None:
    """Convert 3-D cases to 2-D slices on the network's grid, split by patient into train, validation and test.

    Args:
        cases: Scans and masks, from ingest.
        accepted: The case table accepted by validate.
        shards: TFRecord shards of int16 HU slices and lesion shares, with split.json.
        image_size: Edge of the network's grid in pixels, a multiple of 16.
        min_lesion_pixels: Minimum number of lesion pixels in a slice; 0 keeps all slices.
        seed: Seed of the patient-level split.
    """
    from pathlib import Path

    from components.runtime.step import step_process

    with step_process():
        from components.slice.slicing import slice_cohort

        split = slice_cohort(
            Path(cases.path),
            Path(accepted.path),
            Path(shards.path),
            image_size=image_size,
            min_lesion_pixels=min_lesion_pixels,
            seed=seed,
        )
        shards.metadata.update({name: len(case_ids) for name, case_ids in split.cases.items()})
