"""Each finding of the doctor's, without the fault itself; and that no key is ever shown."""

import os

import pytest

from lab_utils.files import GIGABYTE as GB
from lab_utils.start import doctor, hardware, requirements
from lab_utils.start.doctor import Finding
from lab_utils.start.lab import Measured

T4 = hardware.Hardware("cuda", "Tesla T4", "float16", "no bfloat16 units", "t4", 15 * GB, 2)


@pytest.mark.parametrize(
    "finding, level, words",
    [
        (doctor.check_python((3, 11, 7, "final", 0)), "OK", "Python 3.11.7"),
        (doctor.check_python((3, 9, 1)), "FAIL", "the kit needs 3.10 or newer"),
        (doctor.check_package("peft>=0.20,<1", "peft>=0.15", "0.21.2"), "OK", "peft 0.21.2"),
        (
            doctor.check_package("peft>=0.20,<1", "peft>=0.15", "0.17"),
            "WARN",
            "outside the tested range peft>=0.20,<1",
        ),
        (
            doctor.check_package("peft>=0.20,<1", "peft>=0.15", "1.1"),
            "WARN",
            "outside the tested range",
        ),
        (
            doctor.check_package("peft>=0.20,<1", "peft>=0.15", "0.14"),
            "FAIL",
            "outside the tested range",
        ),
        (doctor.check_package("peft>=0.20,<1", "peft>=0.15", None), "FAIL", "not installed"),
        (doctor.check_memory(16 * GB, 8), "OK", "16.0 GB"),
        (doctor.check_memory(2 * GB, 1.5), "WARN", "2.2 GB would be comfortable"),
        (doctor.check_disk(100 * GB), "OK", "100 GB"),
        (doctor.check_disk(2 * GB), "WARN", f"needs {doctor.DISK_NEEDED_GB} GB"),
        (doctor.check_disk(GB // 2), "FAIL", "0.5 GB free"),
        (doctor.check_numpy(None, "2.4"), "OK", "no stale numpy"),
        (doctor.check_numpy("2.4", "2.4"), "OK", "no stale numpy"),
        (doctor.check_numpy("1.26", "2.4"), "FAIL", "numpy 1.26 is loaded, but 2.4 is installed"),
        (doctor.check_key({}), "WARN", "no Gemini key"),
        (doctor.check_key({"GEMINI_API_KEY": " \n"}), "WARN", "no Gemini key"),
        (doctor.check_key({"GEMINI_API_KEY": "x"}), "OK", "(GEMINI_API_KEY)"),
        (doctor.check_chromium("/usr/bin/chromium"), "OK", "/usr/bin/chromium"),
        (doctor.check_chromium(None), "WARN", "no Chromium"),
    ],
)
def test_findings(finding, level, words):
    assert (finding.level, words in finding.what) == (level, True), finding
    assert bool(finding.remedy) == (level != "OK")


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    assert doctor.check_writable(tmp_path).level == "OK"
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    assert doctor.check_writable(tmp_path) == Finding(
        "FAIL", f"{tmp_path} cannot be written", "copy the kit into a folder of your own"
    )


def test_hardware_findings_tell_the_tiers_minutes_and_gigabytes(monkeypatch):
    monkeypatch.setattr(doctor, "measured", lambda *lab: {("06", "t4"): Measured(700.0, 9.5)}[lab])
    device, dtype, tier, memory = doctor.check_hardware(T4)
    assert device.what == "device cuda: Tesla T4, 2 threads"
    assert dtype.what == "compute dtype float16: no bfloat16 units"
    assert tier.what == "tier t4: lab 06 takes about 12 min and 9.5 GB"
    assert memory.what == "memory 15.0 GB" and memory.level == "OK"


def test_a_tier_that_nobody_timed_is_said(monkeypatch):
    monkeypatch.setattr(doctor, "measured", lambda *lab: None)
    tier, memory = doctor.check_hardware(T4)[2:]
    assert tier.what == "tier t4: lab 06 has not been timed there yet" and memory.level == "OK"


def test_a_tool_of_the_tests_is_no_fault_of_the_labs():
    finding = doctor.check_tool("nbval>=0.11,<1", None)
    assert finding.level == "WARN" and "lab_utils test" in finding.remedy
    assert doctor.check_tool("nbval>=0.11,<1", "0.11.0").level == "OK"


def test_without_torch_the_device_is_unknown_and_the_rest_is_said(monkeypatch):
    def absent():
        raise ImportError("no torch")

    monkeypatch.setattr(doctor, "detect", absent)
    findings = doctor.examine()
    assert [finding for finding in findings if "device unknown" in finding.what]
    assert not [finding for finding in findings if finding.what.startswith("tier")]


def test_each_package_of_the_list_is_looked_at():
    said = [finding.what.split()[0] for finding in doctor.examine()]
    for line in requirements.requirement_lines():
        assert requirements.parse_requirement(line)[0] in said


def test_text_has_the_level_and_the_remedy():
    assert str(Finding("OK", "fine")) == "[OK]   fine"
    assert str(Finding("FAIL", "bad", "do this")) == "[FAIL] bad\n         -> do this"


@pytest.mark.parametrize(
    "levels, code, last",
    [(["OK", "WARN"], 0, "Ready."), (["FAIL", "OK", "FAIL"], 1, "2 to repair.")],
)
def test_exit_code_follows_the_findings(levels, code, last, monkeypatch, capsys):
    monkeypatch.setattr(doctor, "examine", lambda: [Finding(level, "x") for level in levels])
    assert doctor.main() == code
    assert capsys.readouterr().out.splitlines()[-1] == last


@pytest.mark.parametrize("name", doctor.KEY_NAMES)
def test_no_part_of_a_key_is_shown(name, monkeypatch, capsys):
    key = "AIzaQWJXVBNMKLPOUYTREDFGHJ"
    for each in doctor.KEY_NAMES:
        monkeypatch.delenv(each, raising=False)
    monkeypatch.setenv(name, key)
    doctor.main()
    said = capsys.readouterr().out
    assert f"a Gemini key is set ({name})" in said
    assert not [key[i : i + 4] for i in range(len(key) - 3) if key[i : i + 4] in said]


def test_the_real_model_is_looked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor, "measured", lambda *lab: Measured(480.0, 3.0))
    finding = doctor.check_real_model(tmp_path)
    assert finding.level == "WARN" and "python3 -m lab_utils get smollm2" in finding.remedy
    (tmp_path / "README.md").touch()
    finding = doctor.check_real_model(tmp_path)
    assert finding.level == "OK" and "lab 09 takes about 8 min and 3 GB" in finding.what
