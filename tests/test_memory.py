"""Bits and bytes on paper: the numbers of the lecture and of the QLoRA paper."""

import subprocess
import sys

import pytest

from lab_utils import memory
from lab_utils.memory import Scheme


def test_bits_per_parameter_of_the_paper():
    bits = {scheme.name: memory.bits_per_parameter(scheme) for scheme in memory.SCHEMES}
    assert bits["fp32"] == 32 and bits["bf16"] == 16 and bits["int8, one constant per tensor"] == 8
    assert bits["nf4, blocks of 64"] == bits["int4, blocks of 64"] == 4.5
    assert bits["nf4 + double quantization"] == 4.126953125
    assert bits["int8, blocks of 64"] == 8.5


def test_the_saving_is_0_373_and_3_03_gigabytes_at_65b():
    assert memory.double_quantization_saving() == 0.373046875
    assert memory.model_gigabytes(65e9, memory.double_quantization_saving()) == pytest.approx(3.031, abs=5e-4)
    assert memory.model_gigabytes(65e9, 0.4) == pytest.approx(3.25), "the deck's rounded 0.4 bits"


@pytest.mark.parametrize(("size", "saved"), [(7, 0.326), (13, 0.606), (33, 1.539), (65, 3.031), (70, 3.264)])
def test_saving_by_model(size, saved):
    assert memory.model_gigabytes(size * 1e9, memory.double_quantization_saving()) == pytest.approx(saved, abs=5e-4)


@pytest.mark.parametrize(
    ("scheme", "total"),
    [
        (Scheme("fp32", 32), 100),
        (Scheme("int8, one constant", 8, None, 32), 29),
        (Scheme("int8 in blocks", 8, 5, 32), 45),
        (Scheme("int8, constants twice", 8, 5, 8, 5), 34),
        (Scheme("nf4, constants twice", 4, 5, 8, 5), 22),
    ],
    ids=lambda value: getattr(value, "name", str(value)),
)
def test_the_lectures_5x5_matrix(scheme, total):
    assert memory.bytes_by_part(scheme, 25)["total"] == total


def test_the_lectures_70_percent():
    """34 of 100 bytes are a reduction of 66 %; 71 % is the plain scheme with one constant, 29 bytes."""
    twice = memory.bytes_by_part(Scheme("", 8, 5, 8, 5), 25)["total"]
    once = memory.bytes_by_part(Scheme("", 8, 5, 32), 25)["total"]
    assert 100 - twice == 66 and 100 - 29 == 71
    assert 1 - twice / once == pytest.approx(0.2444, abs=1e-4)


def test_bytes_approach_the_bits_for_large_tensors():
    for scheme in memory.SCHEMES:
        per_value = 8 * memory.bytes_by_part(scheme, 4096 * 4096)["total"] / 4096**2
        assert per_value == pytest.approx(memory.bits_per_parameter(scheme), abs=1e-5)


def test_short_blocks_still_have_a_constant():
    assert memory.bytes_by_part(Scheme("", 4, 64, 32), 65) == {
        "codes": 33, "constants": 8, "second constants": 0, "total": 41
    }  # fmt: skip


def test_cards():
    gigabytes = memory.model_gigabytes(65e9, 4.126953125)
    assert gigabytes == pytest.approx(33.53, abs=0.01)
    assert memory.cards_that_fit(gigabytes) == ["A100 40 GB", "L40S 48 GB", "H100 80 GB", "H200 141 GB"]
    assert memory.cards_that_fit(memory.model_gigabytes(65e9, 16)) == []
    assert memory.cards_that_fit(16, headroom=0)[0] == "T4 16 GB"


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda: Scheme("", 0), "code_bits"),
        (lambda: Scheme("", 4, 0, 32), "block_size"),
        (lambda: Scheme("", 4, 6.4, 32), "block_size"),
        (lambda: Scheme("", 4, 64, 8, 0), "block_size_2"),
        (lambda: memory.bytes_by_part(Scheme("", 4), 0), "n_values"),
        (lambda: memory.model_gigabytes(0, 4), "n_parameters"),
        (lambda: memory.model_gigabytes(7e9, -1), "bits"),
        (lambda: memory.cards_that_fit(1, headroom=1), "headroom"),
        (lambda: memory.scheme_named("fp5"), "name"),
    ],
)
def test_bad_input_names_the_argument(call, word):
    with pytest.raises(ValueError, match=word):
        call()


def test_needs_no_torch():
    code = "import sys, lab_utils.memory; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0, "a calculator must start at once"
