"""A synthetic 3-D chest-CT cohort with the quirks of the COVID-19 CT data set (Zenodo record 3757476).

Anatomy is a set of signed distances in the patient's own millimeters, so that two scans of one patient show
the same ribs, heart and vessels on two different voxel grids. What a distance is below one pixel becomes a
partial volume. Each patient and each case has its own random stream: the same seed gives the same bytes,
and a cohort of N cases is the beginning of every longer one.

No threshold finds the lesions: vessels, dependent density, the chest wall and blurred lung borders share
their HU. Over 12 cases of seed 0 the best single threshold reaches a Dice of 0.10 (mean of cases and pooled
alike), and the best of all windows, -580 to -260 HU, 0.36 (mean) and 0.41 (pooled).
"""

from components.ct.phantom.cohort import write_cohort

__all__ = ["write_cohort"]
