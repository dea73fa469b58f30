"""The precision follows from the hardware."""

from pathlib import Path

import pytest

from worker.training.precision import choose_precision

X86 = "processor\t: 0\nmodel name\t: Some bf16 processor\nflags\t\t: fpu sse avx512f {}\n"


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        (X86.format("avx512_bf16 amx_bf16 amx_tile"), "bfloat16"),
        (X86.format("avx512_bf16"), "bfloat16"),
        (X86.format("avx512_vnni"), "float32"),
        ("processor\t: 0\nFeatures\t: fp asimd bf16 i8mm\n", "bfloat16"),
        ("", "float32"),
    ],
)
def test_processor_with_bfloat16_flags_uses_it(tmp_path: Path, text: str, chosen: str) -> None:
    (tmp_path / "cpuinfo").write_text(text)
    assert choose_precision(tmp_path / "cpuinfo", tmp_path / "no-gpu") == chosen


def test_gpu_uses_bfloat16_and_a_processor_without_flags_float32(tmp_path: Path) -> None:
    (tmp_path / "gpu").touch()
    assert choose_precision(tmp_path / "nothing", tmp_path / "gpu") == "bfloat16"
    assert choose_precision(tmp_path / "nothing", tmp_path / "no-gpu") == "float32"
