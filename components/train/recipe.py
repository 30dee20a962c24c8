"""Training recipes: every setting of a run as data, and the published presets."""

from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    TypeAdapter,
    ValidationError,
)
from pydantic.dataclasses import dataclass
from pydantic_core import PydanticCustomError

from components.ct.intensity import WINDOW_HU
from components.runtime.errors import InputError


def _require_rising(ends: tuple[float, float]) -> tuple[float, float]:
    if ends[0] >= ends[1]:
        raise PydanticCustomError("not_rising", "the lower end should come first")
    return ends


_CONFIG = ConfigDict(extra="forbid", allow_inf_nan=False)
_Share = Annotated[float, Field(ge=0, le=1)]
_Window = Annotated[tuple[float, float], AfterValidator(_require_rising)]


@dataclass(frozen=True, config=_CONFIG)
class Augmentation:
    """Ranges of the random variation of each slice; 0 disables a variation.

    Attributes:
        flip_columns: mirror left and right in half of the slices; the lungs are nearly symmetric.
        flip_rows: mirror front and back in half of the slices.
        rotation_deg: largest rotation in either direction.
        scale: largest zoom; 0.25 draws a factor between 1/1.25 and 1.25.
        stretch: largest change of the aspect ratio, as for `scale`.
        shift: largest displacement, as a share of the slice's edge.
        brightness: largest offset, as a share of the window.
        contrast: largest change of the contrast about the window's center, as for `scale`.
        gamma: largest change of the exponent on gray values from 0 to 1, as for `scale`.
        noise: largest standard deviation of Gaussian noise, as a share of the window.
    """

    flip_columns: bool = True
    flip_rows: bool = False
    rotation_deg: NonNegativeFloat = 20.0
    scale: NonNegativeFloat = 0.25
    stretch: NonNegativeFloat = 0.1
    shift: NonNegativeFloat = 0.08
    brightness: NonNegativeFloat = 0.08
    contrast: NonNegativeFloat = 0.25
    gamma: NonNegativeFloat = 0.4
    noise: NonNegativeFloat = 0.03


@dataclass(frozen=True, config=_CONFIG)
class Recipe:
    """Network, loss, sampling and optimizer of a training run.

    Attributes:
        window_hu: Hounsfield window that the network scales to 0 to `window_max`; None passes raw values.
        window_max: 1, or 255 as in an 8-bit image.
        filters: of each U-Net level, from the full grid down.
        batch_norm: normalize after each convolution.
        focal_weight: weight of the binary focal cross-entropy.
        focal_alpha: weight of lesion cells, 1 - alpha for the others; None weighs all cells equally.
        focal_gamma: focusing exponent; 0 is plain cross-entropy (Lin et al., 2017).
        dice_weight: weight of the soft Dice loss.
        dice_per: compute the Dice loss for each `slice`, or once for the `batch`.
        augmentation: None disables it.
        foreground_share: share of slices drawn only from those with lesion (nnU-Net: 0.33); the rest is drawn from all.
        slices_per_epoch: slices in an epoch, independent of the cohort's size; None uses each training slice once.
        batch_size: slices in a training step.
        epochs: length of the run.
        learning_rate: initial value.
        cosine_decay: decrease the learning rate to 0 along a half cosine; otherwise it is constant.
        weight_decay: of AdamW; 0 selects Adam.
        mixed_precision: compute in 16 bits where the hardware supports it, otherwise in float32.
        flip_averaging: average the trained network's output over each slice and its mirror image, at twice the
            inference time; docs/ablation.md has the gain.
    """

    window_hu: _Window | None = WINDOW_HU
    window_max: PositiveFloat = 1.0
    filters: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (16, 32, 64, 128, 256)
    batch_norm: bool = True
    focal_weight: NonNegativeFloat = 0.5
    focal_alpha: _Share | None = None
    focal_gamma: NonNegativeFloat = 2.0
    dice_weight: NonNegativeFloat = 0.5
    dice_per: Literal["slice", "batch"] = "slice"
    augmentation: Augmentation | None = Augmentation()
    foreground_share: _Share = 0.33
    slices_per_epoch: PositiveInt | None = 256
    batch_size: PositiveInt = 8
    epochs: PositiveInt = 30
    learning_rate: PositiveFloat = 2e-3
    cosine_decay: bool = True
    weight_decay: NonNegativeFloat = 1e-4
    mixed_precision: bool = True
    flip_averaging: bool = False


# The predecessor script's two published experiments: 8-bit gray values and Adam with its default settings.
_BASELINE_FOCAL = Recipe(
    window_max=255.0,
    batch_norm=False,
    focal_weight=1.0,
    focal_alpha=0.8,
    dice_weight=0.0,
    augmentation=None,
    foreground_share=0.0,
    slices_per_epoch=None,
    epochs=10,
    learning_rate=1e-3,
    cosine_decay=False,
    weight_decay=0.0,
    mixed_precision=False,
)
_BASELINE_FOCAL_DICE = replace(
    _BASELINE_FOCAL,
    focal_weight=0.8,
    dice_weight=0.2,
    dice_per="batch",
    augmentation=Augmentation(brightness=0, contrast=0, gamma=0, noise=0),
)

Preset = Literal["default", "baseline-focal", "baseline-focal-dice"]
PRESETS: Mapping[Preset, Recipe] = {
    "default": Recipe(),
    "baseline-focal": _BASELINE_FOCAL,
    "baseline-focal-dice": _BASELINE_FOCAL_DICE,
}


def select_recipe(
    preset: str,
    changes: Mapping[str, Any] | None = None,
    *,
    epochs: int | None = None,
    batch_size: int | None = None,
) -> Recipe:
    """Return a preset with the settings that the user gave explicitly.

    Args:
        preset: one of `PRESETS`.
        changes: settings as for `change_recipe`.
        epochs: length of the run; None leaves it to `changes` and the preset.
        batch_size: slices in a training step; None leaves it to `changes` and the preset.

    Raises:
        InputError: unknown preset, invalid setting, or a setting with two different values.
    """
    if preset not in PRESETS:
        raise InputError(f"preset {preset!r}: unknown; expected one of {', '.join(PRESETS)}")
    settings = dict(changes or {})
    for name, value in (("epochs", epochs), ("batch_size", batch_size)):
        if value is None:
            continue
        if settings.setdefault(name, value) != value:
            raise InputError(f"{name} is {value}, but changes sets {name} to {settings[name]}; give only one of them")
    return change_recipe(PRESETS[preset], settings)


def change_recipe(recipe: Recipe, changes: Mapping[str, Any]) -> Recipe:
    """Return a copy of the recipe with some settings changed.

    Args:
        recipe: the settings to start from.
        changes: JSON values by the field names of `Recipe`; `augmentation` is null or an object with fields of
            `Augmentation`.

    Raises:
        InputError: unknown setting or invalid value.
    """
    values = asdict(recipe) | dict(changes)
    if isinstance(values["augmentation"], Mapping):
        values["augmentation"] = asdict(recipe.augmentation or Augmentation()) | dict(values["augmentation"])
    try:
        return TypeAdapter(Recipe).validate_python(values)
    except ValidationError as error:
        raise InputError(_describe_first(error)) from error


def _describe_first(error: ValidationError) -> str:
    first = error.errors()[0]
    name = ".".join(map(str, first["loc"]))
    if first["type"] == "unexpected_keyword_argument":
        names = sorted(setting.name for setting in fields(Augmentation if len(first["loc"]) > 1 else Recipe))
        return f"recipe setting {name}: unknown; expected one of {', '.join(names)}"
    return f"recipe setting {name} is {first['input']!r}: {first['msg'][0].lower()}{first['msg'][1:]}"
