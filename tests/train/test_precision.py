"""The precision policy by capability, read from real files of /proc/cpuinfo's form."""

import pytest

from components.train.precision import gpu_policy, mixed_precision_policy


@pytest.mark.parametrize(
    ("flags", "policy"),
    [
        ("fpu avx2 avx512f avx512_bf16", "mixed_bfloat16"),
        ("fpu avx2 amx_bf16 amx_tile", "mixed_bfloat16"),
        ("fpu avx2 avx512f", "float32"),
    ],
)
def test_a_cpu_trains_in_bfloat16_only_where_it_has_it(tmp_path, flags, policy):
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nflags\t\t: {flags}\nprocessor\t: 1\nflags\t\t: {flags}\n")
    assert mixed_precision_policy(tmp_path / "cpuinfo") == policy


def test_a_machine_that_does_not_tell_trains_in_float32(tmp_path):
    assert mixed_precision_policy(tmp_path / "absent") == "float32"


@pytest.mark.parametrize(
    ("capability", "policy"),
    [((9, 0), "mixed_bfloat16"), ((8, 0), "mixed_bfloat16"), ((7, 5), "mixed_float16"), ((6, 1), "float32")],
)
def test_a_gpu_trains_in_what_its_generation_computes(capability, policy):
    assert gpu_policy(capability) == policy
