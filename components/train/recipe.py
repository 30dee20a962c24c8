"""What a training run is made of, as data: the published presets, and every switch between them."""

from collections.abc import Mapping
from dataclasses import asdict, fields
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

from components.runtime.errors import InputError


def _rising(ends: tuple[float, float]) -> tuple[float, float]:
    if ends[0] >= ends[1]:
        raise PydanticCustomError("not_rising", "the lower end should come first")
    return ends


_CHECKED = ConfigDict(extra="forbid", allow_inf_nan=False)
_Share = Annotated[float, Field(ge=0, le=1)]
_Window = Annotated[tuple[float, float], AfterValidator(_rising)]


@dataclass(frozen=True, config=_CHECKED)
class Augmentation:
    """How far each slice is varied at random; 0 leaves a variation out.

    Attributes:
        flip_columns: mirror left and right in half of the slices. The lungs are nearly symmetric.
        flip_rows: mirror front and back in half of the slices.
        rotation_deg: largest rotation to either side.
        scale: largest enlargement, as a share: 0.25 draws a factor from 1/1.25 to 1.25.
        stretch: the same, of the columns against the rows.
        shift: largest displacement, as a share of the slice's edge.
        brightness: largest offset, as a share of the window: what another window level does.
        contrast: largest stretch of the gray values about the window's middle, as for `scale`.
        gamma: largest exponent on gray values from 0 to 1, as for `scale`.
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


@dataclass(frozen=True, config=_CHECKED)
class Recipe:
    """Network, loss, sampling and optimizer of a training run.

    Attributes:
        window_hu: lower and upper end of the Hounsfield window that the network scales to 0 to 1; None feeds
            raw values.
        window_max: what the window's upper end becomes: 1, or 255 as in an 8-bit picture.
        filters: of each level of the U-Net, from the full grid down.
        batch_norm: normalize after each convolution.
        focal_weight: weight of the binary focal cross-entropy.
        focal_alpha: weight of lesion cells in it, 1 minus that of the others; None weighs all alike.
        focal_gamma: how much it forgives what is nearly right; 0 is plain cross-entropy (Lin et al., 2017).
        dice_weight: weight of the soft Dice loss.
        dice_per: one Dice for each `slice`, or one for the `batch`.
        augmentation: None trains on the slices as they are.
        foreground_share: share of the slices that are drawn from those with lesion alone; the rest is drawn
            from all. nnU-Net uses 0.33.
        slices_per_epoch: an epoch's length whatever the cohort's size, so that its time is known beforehand;
            None passes through the training slices once.
        batch_size: slices in a training step.
        epochs: length of the run.
        learning_rate: at the start.
        cosine_decay: let it fall to 0 along a half cosine by the end; otherwise it stays.
        weight_decay: AdamW's; 0 is Adam.
        mixed_precision: compute in 16 bits where the machine does so natively; otherwise in float32.
        flip_averaging: let the trained network answer with the mean over a slice and its mirror image, for twice
            the time; docs/ablation.md has what it gains.
    """

    window_hu: _Window | None = (-1250.0, 250.0)
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


# The two published experiments of the project's predecessor, as it ran them: the values of 8-bit files as they are,
# Adam as it comes.
_SEED_FOCAL = Recipe(
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
_SEED_FOCAL_DICE = Recipe(
    window_max=255.0,
    batch_norm=False,
    focal_weight=0.8,
    focal_alpha=0.8,
    dice_weight=0.2,
    dice_per="batch",
    augmentation=Augmentation(brightness=0, contrast=0, gamma=0, noise=0),
    foreground_share=0.0,
    slices_per_epoch=None,
    epochs=10,
    learning_rate=1e-3,
    cosine_decay=False,
    weight_decay=0.0,
    mixed_precision=False,
)

PRESETS = {"default": Recipe(), "baseline-focal": _SEED_FOCAL, "baseline-focal-dice": _SEED_FOCAL_DICE}


def preset_recipe(name: str) -> Recipe:
    """The preset of that name; `InputError` lists the names there are."""
    try:
        return PRESETS[name]
    except KeyError:
        raise InputError(f"preset {name!r}: no such recipe; expected one of {', '.join(PRESETS)}") from None


def changed_recipe(recipe: Recipe, changes: Mapping[str, Any]) -> Recipe:
    """The recipe with other values of some settings, as JSON gives them.

    Args:
        recipe: such as a preset.
        changes: values by the names of `Recipe`; `augmentation` is null, or values by the names of `Augmentation`.

    Raises:
        InputError: no such setting, or no value for it.
    """
    values = asdict(recipe) | dict(changes)
    if isinstance(values["augmentation"], Mapping):
        values["augmentation"] = asdict(recipe.augmentation or Augmentation()) | dict(values["augmentation"])
    try:
        return TypeAdapter(Recipe).validate_python(values)
    except ValidationError as error:
        raise InputError(_in_one_line(error)) from error


def _in_one_line(error: ValidationError) -> str:
    """The first of the mistakes: which setting, what it is, what it should be."""
    first = error.errors()[0]
    name = ".".join(map(str, first["loc"]))
    if first["type"] == "unexpected_keyword_argument":
        settings = fields(Augmentation if len(first["loc"]) > 1 else Recipe)
        return f"recipe setting {name}: not known; expected {', '.join(sorted(each.name for each in settings))}"
    return f"recipe setting {name} is {first['input']!r}: {first['msg'][0].lower()}{first['msg'][1:]}"
