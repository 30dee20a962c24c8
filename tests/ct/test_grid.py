"""The fit to the network's grid and its inverse."""

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.ct.grid import (
    AIR_HU,
    MAX_EDGE,
    GridFit,
    axial_slices,
    fit_hu,
    fit_mask,
    resampling_matrix,
    volume_from_axial_slices,
)
from components.ct.volume import read_volume
from components.runtime.errors import VolumeError

edges = st.integers(1, 90)


def test_shrinking_averages_the_pixels_under_each_cell():
    # Each of four cells covers one and a half of six pixels.
    expected = np.array([[2, 1, 0, 0, 0, 0], [0, 1, 2, 0, 0, 0], [0, 0, 0, 2, 1, 0], [0, 0, 0, 0, 1, 2]]) / 3
    np.testing.assert_allclose(resampling_matrix(n_from=6, n_to=4), expected, atol=1e-7)


def test_enlarging_interpolates_between_pixel_centers():
    expected = np.array([[1, 0], [0.75, 0.25], [0.25, 0.75], [0, 1]])
    np.testing.assert_allclose(resampling_matrix(n_from=2, n_to=4), expected, atol=1e-7)


@given(edges, edges)
def test_every_weight_row_sums_to_one(n_from, n_to):
    np.testing.assert_allclose(resampling_matrix(n_from=n_from, n_to=n_to).sum(axis=1), 1, atol=1e-5)


@given(edges, edges, st.sampled_from([16, 32, 48]))
@settings(deadline=None)
def test_the_aspect_ratio_is_kept_to_half_a_cell_and_the_content_is_centered(height, width, size):
    fit = GridFit(height=height, width=width, size=size)
    assert max(fit.content) == size
    for cells, pixels, offset in zip(fit.content, (height, width), fit.offset, strict=True):
        assert abs(cells / size - pixels / max(height, width)) <= 1 / size
        assert 0 <= size - cells - 2 * offset <= 1


@given(edges, edges, st.floats(-1000, 1000, width=32))
@settings(deadline=None)
def test_a_constant_survives_fit_and_inverse(height, width, value):
    fit = GridFit(height=height, width=width, size=32)
    slices = np.full((1, height, width), value, np.float32)
    np.testing.assert_allclose(fit.invert(fit.apply(slices, AIR_HU)), slices, atol=1e-2)


@given(st.integers(32, 90), st.integers(32, 90), st.integers(0, 2**32 - 1))
@settings(deadline=None)
def test_shrinking_keeps_the_lesion_volume_exactly(height, width, seed):
    mask = (np.random.default_rng(seed).random((1, height, width)) < 0.3).astype(np.uint8)
    fit = GridFit(height=height, width=width, size=32)
    rows, columns = fit.content
    pixels_in_a_cell = (height / rows) * (width / columns)
    assert fit.apply(mask, 0).sum() * pixels_in_a_cell == pytest.approx(mask.sum(), rel=1e-4)


@given(st.sampled_from([1, 2, 3, 4]), st.integers(0, 2**32 - 1))
@settings(deadline=None)
def test_inverse_then_fit_restores_a_grid_whose_cells_are_whole_pixels(factor, seed):
    """Exact only for linear grids, since linear interpolation smooths."""
    row, column, level = np.random.default_rng(seed).normal(size=3)
    rows, columns = np.mgrid[:16, :16]
    grid = (row * rows + column * columns + level)[None].astype(np.float32)
    fit = GridFit(height=16 * factor, width=16 * factor, size=16)
    back = fit.apply(fit.invert(grid), 0)
    np.testing.assert_allclose(back[:, 1:-1, 1:-1], grid[:, 1:-1, 1:-1], atol=1e-3)


@pytest.mark.parametrize("shape", [(1, 1, MAX_EDGE + 1), (1, 4_000_000, 1), (1, 0, 5), (2, 5, 0)])
def test_slices_that_would_need_huge_matrices_or_have_no_pixels_are_refused(shape):
    slices = np.broadcast_to(np.int16(0), shape)
    with pytest.raises(VolumeError, match=f"{shape[1]}×{shape[2]} pixels; expected 1 to {MAX_EDGE}"):
        fit_hu(slices, 32)


def test_a_file_with_such_an_axis_is_refused_by_name(tmp_path):
    nib.save(nib.Nifti1Image(np.zeros((MAX_EDGE + 1, 2, 2), np.int16), np.eye(4)), tmp_path / "wide.nii.gz")
    with pytest.raises(VolumeError, match=rf"wide\.nii\.gz: .*{MAX_EDGE + 1}.* 1 to {MAX_EDGE} "):
        read_volume(tmp_path / "wide.nii.gz")


def test_padding_is_air():
    fitted = fit_hu(np.zeros((1, 64, 32), np.int16), 32)
    assert (fitted[0, :, :8] == AIR_HU).all()
    assert (fitted[0, :, 24:] == AIR_HU).all()
    assert (fitted[0, :, 8:24] == 0).all()


def test_mask_cells_hold_their_lesion_share():
    mask = np.zeros((1, 64, 64), np.uint8)
    mask[0, 0, 0] = 1
    fitted = fit_mask(mask, 32)
    assert fitted.dtype == np.uint8
    assert fitted[0, 0, 0] == 64  # a quarter of 255, rounded
    assert fitted.sum() == 64


def test_slices_show_anterior_at_the_top_and_the_patients_right_on_the_left():
    volume = np.zeros((4, 5, 3), np.int16)  # RAS+: x to the right, y to the front, z to the head
    volume[3, 4, 2] = 1  # the rightmost, anterior, superior voxel
    slices = axial_slices(volume)
    assert slices.shape == (3, 5, 4)
    assert slices[2, 0, 0] == 1


@given(st.tuples(edges, edges, st.integers(1, 4)))
def test_slices_restore_their_volume(shape):
    volume = np.arange(np.prod(shape)).reshape(shape)
    np.testing.assert_array_equal(volume_from_axial_slices(axial_slices(volume)), volume)
