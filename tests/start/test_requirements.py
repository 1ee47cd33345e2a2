"""Version ranges, and the lists of packages: which are in which, and what they allow."""

import importlib.metadata
import re
from collections import namedtuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from lab_utils.files import ROOT, LabKitError
from lab_utils.start import requirements
from lab_utils.start.requirements import LABS, OPENING, RUNNING, TESTING

# --- version ranges

versions = st.lists(st.integers(0, 30), min_size=1, max_size=4).map(
    lambda parts: ".".join(map(str, parts))
)


@given(
    versions,
    st.lists(st.tuples(st.sampled_from(sorted(requirements.COMPARISONS)), versions), max_size=3),
)
def test_ranges_agree_with_packaging(version, bounds):
    bounds = [(sign, limit) for sign, limit in bounds if sign != "~=" or "." in limit]
    range_text = ",".join(sign + limit for sign, limit in bounds)
    _, parsed = requirements.parse_requirement("name" + range_text)
    assert parsed == bounds
    assert requirements.satisfies(version, parsed) == SpecifierSet(range_text).contains(version)


@pytest.mark.parametrize(
    "version, numbers",
    [
        ("2.13.0+cpu", (2, 13)),
        ("2.14.0rc1", (2, 14, 0)[:2]),
        ("5.2.0.post1", (5, 2)),
        ("24", (24,)),
        ("0.0", ()),
    ],
)
def test_release_keeps_the_numbers(version, numbers):
    assert requirements.release(version) == numbers


def test_ten_is_newer_than_nine():
    assert requirements.satisfies("2.10", [(">=", "2.9")])
    assert not requirements.satisfies("2.14.0", [("<", "2.14")])


@pytest.mark.parametrize(
    "line", ["", ">=2", "torch~=2", "torch>=2; python_version<'3'", "-r other.txt"]
)
def test_what_is_not_a_plain_requirement_is_refused(line):
    with pytest.raises(ValueError, match="expected a name and bounds"):
        requirements.parse_requirement(line)


def test_unmet_names_absent_and_out_of_range():
    installed = {"there": "2.0", "old": "0.9", "new": "3.0"}.get
    lines = ["there>=1,<3", "old>=1", "new<3", "absent"]
    assert requirements.unmet(lines, installed) == ["old>=1", "new<3", "absent"]


def test_pins_leave_out_what_pip_cannot_read_and_take_what_is_imported(monkeypatch):
    found = [
        namedtuple("Found", "name version")(*each)
        for each in (
            ("torch", "2.11.0+cu128"),
            ("distro-info", "1.1+ubuntu0.2"),
            ("python-debian", "0.1.43ubuntu1"),
            ("numpy", "2.0.2"),
            ("numpy", "1.21.5"),
            (None, "1.0"),
            ("broken", None),
            ("h5py", "3.0rc1.post2"),
        )
    ]
    monkeypatch.setattr(importlib.metadata, "distributions", lambda: found)
    assert requirements.pins() == [
        "distro-info==1.1+ubuntu0.2",
        "h5py==3.0rc1.post2",
        "numpy==2.0.2",
        "torch==2.11.0+cu128",
    ]


@given(st.from_regex(requirements.PLAIN_VERSION, fullmatch=True))
def test_a_version_that_is_pinned_can_be_read_by_pip(version):
    Version(version)


def test_a_missing_requirements_file_is_named(tmp_path):
    with pytest.raises(LabKitError, match="complete copy"):
        requirements.requirement_lines(tmp_path / "requirements.txt")


# --- the three lists of packages


def by_name(lines) -> dict:
    return dict(map(requirements.parse_requirement, lines))


def all_of_pyproject() -> dict:
    tomllib = pytest.importorskip("tomllib", reason="in the standard library from Python 3.11 on")
    project = tomllib.loads(requirements.PYPROJECT.read_text())["project"]
    assert project["dependencies"] == requirements.loose_requirements()
    extras = project["optional-dependencies"]
    # what `bench` compares with is not installed by default
    lists = [project["dependencies"], extras["lab"], extras["test"]]
    return by_name(line for lines in lists for line in lines)


def test_pyproject_and_requirements_name_the_same_packages():
    assert set(all_of_pyproject()) == set(by_name(requirements.requirement_lines()))


def test_pyprojects_bounds_contain_the_tested_ranges():
    loose = all_of_pyproject()
    for name, bounds in by_name(requirements.requirement_lines()).items():
        ((sign, lowest),) = loose[name]
        assert sign == ">=" and requirements.satisfies(dict(bounds)[">="], [(">=", lowest)]), name


def test_every_range_has_an_upper_end_and_holds_what_is_installed():
    for line in requirements.requirement_lines():
        name, bounds = requirements.parse_requirement(line)
        assert [sign for sign, _ in bounds] == [">=", "<"], name
        version = requirements.installed_version(name)
        assert version is None or requirements.satisfies(version, bounds), name
    # a test above all needs what the labs need; the tools that only look at code may be absent
    assert requirements.unmet(requirements.requirement_lines(up_to=RUNNING)) == []


@pytest.mark.parametrize(
    "package, version, uses",
    [
        ("tenacity", "8.3", "RetryCallState.upcoming_sleep"),
        ("gguf", "0.10", "transformers' reader"),
        ("google-genai", "1.68", "thinking levels, the addresses of locations, errors in a list"),
        ("json_repair", "0.50", "replies with two faults"),
        ("nltk", "3.9.1", "METEOR without a download"),
    ],
)
def test_no_lower_bound_allows_a_version_that_lacks_what_the_kit_uses(package, version, uses):
    for lists in (requirements.requirement_lines(), requirements.loose_requirements()):
        lowest = dict(by_name(lists)[package])[">="]
        assert requirements.satisfies(lowest, [(">=", version)]), uses


# --- sections


def test_each_section_adds_to_those_before_it():
    sizes = [len(requirements.requirement_lines(up_to=name)) for name in requirements.SECTIONS]
    assert sizes == sorted(set(sizes)) and sizes[-1] == len(requirements.requirement_lines())


@pytest.mark.parametrize(
    "section, has, has_not",
    [
        (LABS, "torch", "nbclient"),
        (RUNNING, "nbclient", "jupyterlab"),
        (OPENING, "jupyterlab", "playwright"),
        (TESTING, "playwright", None),
    ],
)
def test_a_section_has_what_its_commands_need_and_no_more(section, has, has_not):
    names = by_name(requirements.requirement_lines(up_to=section))
    assert has in names and has_not not in names


def test_a_list_without_a_section_is_taken_whole(tmp_path):
    (tmp_path / "requirements.txt").write_text("# the labs\na>=1\n\n# running them\nb>=1  # why\n")
    path = tmp_path / "requirements.txt"
    assert requirements.requirement_lines(path, LABS) == ["a>=1"]
    assert requirements.requirement_lines(path, TESTING) == ["a>=1", "b>=1"]


# --- the lock

TARGETS = [
    {"python_version": python, "python_full_version": python + ".9"} | system
    for python in ("3.10", "3.11", "3.12", "3.13")
    for system in (
        {"sys_platform": "linux", "platform_machine": "x86_64"},
        {"sys_platform": "linux", "platform_machine": "aarch64"},
        {"sys_platform": "win32", "platform_machine": "AMD64"},
        {"sys_platform": "darwin", "platform_machine": "arm64"},
    )
]


def locked(target: dict[str, str]) -> dict[str, str]:
    """Name -> version in the lock for a Python on a system; each name once."""
    found = {}
    for line in requirements.requirement_lines(requirements.LOCK):
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate(target):
            assert requirement.name not in found, line
            (pin,) = requirement.specifier
            assert pin.operator == "==" and not pin.version.endswith("*"), line
            found[requirement.name] = pin.version
    return found


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: "-".join(target.values()))
def test_the_lock_has_each_package_once_in_its_range_on_every_machine(target):
    versions = locked(target)
    for name, bounds in by_name(requirements.requirement_lines()).items():
        assert requirements.satisfies(versions[name.replace("_", "-").lower()], bounds), name


def test_the_lock_names_no_host_no_hash_and_no_build_of_one_machine():
    text = requirements.LOCK.read_text(encoding="utf-8")
    assert not re.search(r"https?:|://|file:|--|@|sha256|\+cpu|\+cu", text)
    assert re.search(r"20\d\d-\d\d-\d\d", text)


def test_markers_of_the_lock_name_pythons_or_systems():
    for line in requirements.requirement_lines(requirements.LOCK):
        if marker := Requirement(line).marker:
            assert set(re.findall(r"\w+_\w+", str(marker))) <= {
                "python_version",
                "sys_platform",
                "platform_machine",
            }
            Marker(str(marker))


def test_conda_takes_the_same_list():
    text = (ROOT / "environment.yml").read_text()
    files = ["-r requirements.txt", "-c requirements.lock"]
    assert re.findall(r"^      - (.*)", text, re.MULTILINE) == files
    required = requirements.PYPROJECT.read_text().split('requires-python = ">=')[1].split('"')[0]
    assert requirements.satisfies(re.search(r"python=([\d.]+)", text)[1], [(">=", required)])


def test_python_bound_is_the_one_checked():
    from lab_utils import PYTHON_REQUIRED

    assert (
        f'requires-python = ">={PYTHON_REQUIRED[0]}.{PYTHON_REQUIRED[1]}"'
        in requirements.PYPROJECT.read_text()
    )
