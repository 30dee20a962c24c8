"""Training recipes: every setting of a run as data, and the published presets."""

from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from enum import StrEnum
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
MAX_BATCH_SIZE = 65_536  # on the default grid, its slices alone have 4 GB: 65536·128² float32
_Width = Annotated[PositiveInt, Field(le=4096)]  # a convolution between two levels of this width has 600 MB
_Share = Annotated[float, Field(ge=0, le=1)]
_Window = Annotated[tuple[float, float], AfterValidator(_require_rising)]


@dataclass(frozen=True, config=_CONFIG)
class Augmentation:
    """Ranges of the random variation of each slice; 0 disables a variation."""

    flip_columns: bool = True  # mirror left and right in half of the slices: the lungs are nearly symmetric
    flip_rows: bool = False  # mirror front and back in half of the slices
    rotation_deg: NonNegativeFloat = 20.0  # largest rotation in either direction
    scale: NonNegativeFloat = 0.25  # largest zoom: 0.25 draws a factor between 1/1.25 and 1.25
    stretch: NonNegativeFloat = 0.1  # largest change of the aspect ratio, as for scale
    shift: NonNegativeFloat = 0.08  # largest displacement, as a share of the slice's edge
    brightness: NonNegativeFloat = 0.08  # largest offset, as a share of the gray window
    contrast: NonNegativeFloat = 0.25  # largest change of the contrast about the window's center, as for scale
    gamma: NonNegativeFloat = 0.4  # largest change of the exponent on gray values from 0 to 1, as for scale
    noise: NonNegativeFloat = 0.03  # largest standard deviation of Gaussian noise, as a share of the gray window


@dataclass(frozen=True, config=_CONFIG)
class Recipe:
    """Network, loss, sampling and optimizer of a training run."""

    window_hu: _Window | None = WINDOW_HU  # scaled to 0 to window_max; None passes raw values
    window_max: PositiveFloat = 1.0  # 255 as in an 8-bit image
    filters: Annotated[tuple[_Width, ...], Field(min_length=1)] = (16, 32, 64, 128, 256)  # from the full grid down
    batch_norm: bool = True  # after each 3×3 convolution
    focal_weight: NonNegativeFloat = 0.5  # of the binary focal cross-entropy (Lin et al., 2017)
    focal_alpha: _Share | None = None  # weight of lesion, 1 - alpha for the background; None weights both by 1
    focal_gamma: NonNegativeFloat = 2.0  # focusing exponent; 0 is plain cross-entropy
    dice_weight: NonNegativeFloat = 0.5  # of the soft Dice loss
    dice_per: Literal["slice", "batch"] = "slice"  # one Dice loss for each slice, or for the whole batch
    augmentation: Augmentation | None = Augmentation()
    foreground_share: _Share = 0.33  # share of slices drawn only from those with lesion (nnU-Net: 0.33)
    slices_per_epoch: PositiveInt | None = 256  # independent of the cohort's size; None is one pass
    batch_size: Annotated[PositiveInt, Field(le=MAX_BATCH_SIZE)] = 8  # slices in a training step
    epochs: PositiveInt = 30
    learning_rate: PositiveFloat = 2e-3  # initial value
    cosine_decay: bool = True  # decrease the learning rate to 0; otherwise it is constant
    weight_decay: NonNegativeFloat = 1e-4  # of AdamW; 0 selects Adam
    mixed_precision: bool = True  # compute in 16 bits where the hardware supports it
    flip_averaging: bool = False  # average over each slice and its mirror image, at twice the inference time

    def check_image_size(self, image_size: int) -> None:
        """Raise `InputError` unless the network can halve its input as often as it has levels below the first."""
        levels = len(self.filters)
        if image_size % (multiple := 2 ** (levels - 1)):
            expected = f"a multiple of {multiple} for filters of {levels} levels"
            raise InputError(f"image_size is {image_size}; expected {expected}")


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


class Preset(StrEnum):
    """Names of the published recipes. Other values raise `InputError`."""

    DEFAULT = "default"
    BASELINE_FOCAL = "baseline-focal"
    BASELINE_FOCAL_DICE = "baseline-focal-dice"

    @classmethod
    def _missing_(cls, value: object) -> None:
        raise InputError(f"preset: {value!r}; expected one of {', '.join(cls)}")


PRESETS = {
    Preset.DEFAULT: Recipe(),
    Preset.BASELINE_FOCAL: _BASELINE_FOCAL,
    Preset.BASELINE_FOCAL_DICE: _BASELINE_FOCAL_DICE,
}


def select_recipe(
    preset: str, changes: Mapping[str, Any] | None = None, *, epochs: int | None = None, batch_size: int | None = None
) -> Recipe:
    """Return a preset with the settings that the user gave explicitly.

    Args:
        preset: a value of `Preset`.
        changes: settings as for `change_recipe`.
        epochs: length of the run; None leaves it to `changes` and the preset.
        batch_size: slices in a training step; None leaves it to `changes` and the preset.

    Raises:
        InputError: unknown preset, invalid settings, or a setting with two different values; a line for each.
    """
    recipe = change_recipe(PRESETS[Preset(preset)], changes or {})
    explicit = {name: value for name, value in (("epochs", epochs), ("batch_size", batch_size)) if value is not None}
    changed = {name: getattr(recipe, name) for name in explicit if name in (changes or {})}
    problems = [
        f"{name} is {explicit[name]}, but changes sets {name} to {value}; give only one of them"
        for name, value in changed.items()
        if value != explicit[name]
    ]
    if problems:
        raise InputError(*problems)
    return change_recipe(recipe, explicit)


def change_recipe(recipe: Recipe, changes: Mapping[str, Any]) -> Recipe:
    """Return a copy of the recipe with some settings changed.

    Args:
        recipe: the original.
        changes: JSON values by the fields of `Recipe`; `augmentation` is null, or an object with changed fields.

    Raises:
        InputError: unknown settings or invalid values, a line for each.
    """
    values = asdict(recipe) | dict(changes)
    if isinstance(values["augmentation"], Mapping):
        values["augmentation"] = asdict(recipe.augmentation or Augmentation()) | dict(values["augmentation"])
    try:
        changed = TypeAdapter(Recipe).validate_python(values)
    except ValidationError as error:
        raise InputError(*map(_describe, error.errors())) from error
    if not changed.focal_weight and not changed.dice_weight:
        raise InputError("recipe settings focal_weight and dice_weight are both 0; expected a loss: one above 0")
    return changed


def _describe(problem: Mapping[str, Any]) -> str:
    name = ".".join(map(str, problem["loc"]))
    if problem["type"] == "unexpected_keyword_argument":
        known = fields(Augmentation if len(problem["loc"]) > 1 else Recipe)
        return f"recipe setting {name}: unknown; expected one of {', '.join(sorted(setting.name for setting in known))}"
    return f"recipe setting {name} is {problem['input']!r}: {problem['msg'][0].lower()}{problem['msg'][1:]}"
