"""Reading exports of Canvas, Moodle and Gradescope, and whatever else is in a folder: whose, which
lab, which file counts.
"""

import io
import os
import re
import signal
import tarfile
import tempfile
import zipfile
from datetime import datetime
from pathlib import Path

import pytest
from hostile.made_up_lab import LAB, LABS
from hostile.odd import HONEST, written
from hypothesis import given, settings
from hypothesis import strategies as st

from lab_utils.course.grading import exports, reading
from lab_utils.course.grading.reading import labs_of, read_cells
from lab_utils.course.grading.submissions import copy_number, read_submissions

OTHER = "91_another_lab"
BOTH = {**LABS, OTHER: {"triple", "quadruple"}}
NOTEBOOK = written(HONEST)
OTHER_NOTEBOOK = written(["def triple(x): return 3 * x"])
DATE = (2026, 3, 4, 5, 6, 8)


def zipped(files: dict[str, bytes], date=DATE) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            info = zipfile.ZipInfo(name, date)
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, data)
    return file.getvalue()


def put(folder, files: dict[str, bytes]):
    for i, (name, data) in enumerate(files.items()):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
        os.utime(folder / name, (1.7e9 + i, 1.7e9 + i))
    return folder


def read(*paths, labs=BOTH, lab=None):
    """({(student, lab): submission}, lines)."""
    found, notes = read_submissions(list(paths), labs, lab)
    assert len({(entry.student, entry.lab) for entry in found}) == len(found)
    return {(entry.student, entry.lab): entry for entry in found}, "\n".join(notes)


# ---------------------------------------------------------------------------------------- exports
CANVAS = {
    "doejane_12345_678901_lab 90 made up.ipynb": NOTEBOOK,
    "doejane_12345_678902_91_another_lab.ipynb": OTHER_NOTEBOOK,
    "doejane_99999_678903_90_made_up_lab-1.ipynb": NOTEBOOK,
    "roebob_LATE_22222_678904_90_made_up_lab (2).ipynb": NOTEBOOK,
    "lateanna_33333_678905_90_made_up_lab-submission.zip": zipped(
        {"90_made_up_lab.ipynb": NOTEBOOK, "__MACOSX/._90_made_up_lab.ipynb": b"junk"}
    ),
    "emptyed_44444_678906_essay.pdf": b"%PDF",
}
MOODLE = {
    "Jane Doe_111_assignsubmission_file_/90_made_up_lab.ipynb": NOTEBOOK,
    "Jane Doe_222_assignsubmission_file_/90_made_up_lab.ipynb": NOTEBOOK,
    "Zo\u00eb O'Neil-Smith_333_assignsubmission_file_/sub folder/work (1).ipynb": NOTEBOOK,
    "Max M\u00fcller_444_assignsubmission_file_90_made_up_lab.ipynb": NOTEBOOK,
    "Only Text_555_assignsubmission_onlinetext_/onlinetext.html": b"<p>sorry</p>",
}
GRADESCOPE = {
    "submission_metadata.yml": b"""---
submission_1001:
  :submitters:
  - :name: Jane Doe
    :sid: '111'
    :email: jane@school.edu
  :created_at: 2026-03-04 05:06:07.000000000 Z
submission_1002:
  :submitters:
  - :name: Bob Roe
    :email: bob@school.edu
  - :name: Ann Lee
    :sid: 7
  :created_at: '2026-03-05 10:00:00 -0500'
""",
    "submission_1001/90_made_up_lab.ipynb": NOTEBOOK,
    "submission_1002/Untitled.ipynb": NOTEBOOK,
    "submission_1003/90_made_up_lab.ipynb": NOTEBOOK,
}
EXPECTED = {
    "canvas": (
        CANVAS,
        {
            ("doejane (12345)", LAB),
            ("doejane (12345)", OTHER),
            ("doejane (99999)", LAB),
            ("roebob (22222)", LAB),
            ("lateanna (33333)", LAB),
            ("emptyed (44444)", ""),
        },
    ),
    "moodle": (
        MOODLE,
        {
            ("Jane Doe (111)", LAB),
            ("Jane Doe (222)", LAB),
            ("Zo\u00eb O'Neil-Smith (333)", LAB),
            ("Max M\u00fcller (444)", LAB),
            ("Only Text (555)", ""),
        },
    ),
    "gradescope": (
        GRADESCOPE,
        {
            ("Jane Doe (111)", LAB),
            ("Bob Roe (bob@school.edu) + Ann Lee (7)", LAB),
            ("submission_1003", LAB),
        },
    ),
    "folders": (
        {
            "alice/90_made_up_lab.ipynb": NOTEBOOK,
            "bob/week 3/x.ipynb": NOTEBOOK,
            "carol.ipynb": NOTEBOOK,
            ".DS_Store": b"",
            "dan.zip": zipped({"a/b/90_made_up_lab.ipynb": NOTEBOOK}),
        },
        {("alice", LAB), ("bob", LAB), ("carol", LAB), ("dan", LAB)},
    ),
}


@pytest.mark.parametrize("kind", EXPECTED)
@pytest.mark.parametrize("form", ["folder", "zip", "zip in a folder"])
def test_an_export_as_folder_and_as_zip(kind, form, tmp_path):
    files, expected = EXPECTED[kind]
    if form == "zip in a folder" and kind == "folders":
        return  # then the zip is a student
    path = put(tmp_path / "in", files) if form == "folder" else tmp_path / "export.zip"
    if form != "folder":
        path.write_bytes(zipped(files))
    if form == "zip in a folder":
        path = put(tmp_path / "in", {"export.zip": path.read_bytes()})
    found, _ = read(path)
    assert set(found) == expected
    for (_, lab), entry in found.items():
        assert bool(entry.problem) == (not lab)
        assert not lab or "def " in entry.cells[0] or len(entry.cells) == 4


def test_times_are_those_of_the_export(tmp_path):
    # what a student's clock said
    inner = zipped({"90_made_up_lab.ipynb": NOTEBOOK}, date=(1999, 1, 1, 0, 0, 0))
    found, _ = read(
        put(tmp_path / "in", {"alice/lab.zip": inner, "bob/90_made_up_lab.ipynb": NOTEBOOK})
    )
    assert (
        found["alice", LAB].submitted == "2023-11-14T22:13:20+00:00"
        and found["alice", LAB].submitted_from == "file time"
    )
    assert found["bob", LAB].submitted == "2023-11-14T22:13:21+00:00"
    (tmp_path / "export.zip").write_bytes(zipped({"alice/lab.zip": inner}))
    entry = read(tmp_path / "export.zip")[0]["alice", LAB]
    assert entry.submitted == "2026-03-04T05:06:08" and "no time zone" in entry.submitted_from
    found, _ = read(put(tmp_path / "gradescope", GRADESCOPE))
    entry = found["Jane Doe (111)", LAB]
    assert (
        datetime.fromisoformat(entry.submitted).isoformat().startswith("2026-03-04T05:06:07")
        and entry.submitted_from == "Gradescope"
    )
    assert (
        found["Bob Roe (bob@school.edu) + Ann Lee (7)", LAB].submitted
        == "2026-03-05 10:00:00 -0500"
    )
    assert "LATE" in read(put(tmp_path / "canvas", CANVAS))[0]["roebob (22222)", LAB].submitted_from


@pytest.mark.parametrize(
    "metadata",
    [
        b"",
        b"- 1",
        b"{{{",
        b"submission_1001: 5",
        b"!!python/object/apply:os.system ['touch /tmp/grader_yaml']",
        b"\xff\xfe",
    ],
)
def test_metadata_that_cannot_be_read_costs_nothing(metadata, tmp_path):
    found, _ = read(put(tmp_path, {**GRADESCOPE, "submission_metadata.yml": metadata}))
    assert set(found) == {
        ("submission_1001", LAB),
        ("submission_1002", LAB),
        ("submission_1003", LAB),
    }
    assert not os.path.exists("/tmp/grader_yaml")


# -------------------------------------------------------------------------------- which file counts
def test_the_newest_that_can_be_read_counts(tmp_path):
    files = {
        "alice/lab (1).ipynb": written([*HONEST, "first"]),
        "alice/lab.ipynb": written([*HONEST, "second"]),
        "alice/90_made_up_lab (2).ipynb": NOTEBOOK[:300],
        "bob/lab.ipynb": NOTEBOOK[:300],
    }
    found, notes = read(put(tmp_path, files))
    assert found["alice", LAB].cells[-1] == "second" and found["alice", LAB].others == (
        "alice/90_made_up_lab (2).ipynb",
        "alice/lab (1).ipynb",
    )
    assert (
        "alice/lab.ipynb counts, not alice/90_made_up_lab (2).ipynb, alice/lab (1).ipynb" in notes
    )
    assert (
        found["bob", ""].problem.startswith("not a notebook: broken JSON")
        and "bob/lab.ipynb" in notes
    )


def test_of_equally_old_files_the_highest_number_counts(tmp_path):
    names = ["lab.ipynb", "lab (1).ipynb", "lab (10).ipynb", "lab (9).ipynb"]
    (tmp_path / "a.zip").write_bytes(
        zipped({f"alice/{name}": written([*HONEST, name]) for name in names})
    )
    assert read(tmp_path / "a.zip")[0]["alice", LAB].cells[-1] == "lab (10).ipynb"


def test_two_students_of_one_name_stay_two(tmp_path):
    for section in ("monday", "tuesday"):
        put(
            tmp_path / section,
            {"alice/lab.ipynb": written([*HONEST, section]), f"only {section}/lab.ipynb": NOTEBOOK},
        )
    found, notes = read(tmp_path / "monday", tmp_path / "tuesday")
    assert len(found) == 4 and "alice: the name of 2 students" in notes
    assert {
        entry.cells[-1] for (student, _), entry in found.items() if student.startswith("alice [")
    } == {"monday", "tuesday"}


# ---------------------------------------------------------------------------------------- which lab
@pytest.mark.parametrize(
    "cells, name, lab",
    [
        (HONEST, "x.ipynb", LAB),
        (["x = 1"], "Copy of 90-made UP lab (3).ipynb", LAB),
        (["def double(x): pass"], "x.ipynb", LAB),
        (["double = lambda x: x"], "x.ipynb", LAB),
        (
            ["def triple(x): pass", "def quadruple(x): pass", "def double(x): pass"],
            "x.ipynb",
            OTHER,
        ),
        ([f'start_lab("{LAB}")', "def triple(x): pass"], "91_another_lab.ipynb", LAB),
        (['start_lab("99_gone")', "def triple(x): pass"], "x.ipynb", OTHER),
        (["# double"], "x.ipynb", ""),
        ([], "x.ipynb", ""),
    ],
)
def test_which_lab_it_is(cells, name, lab):
    assert labs_of(tuple(cells), name, BOTH)[0][:1] == ([lab] if lab else [])


def test_a_lab_that_does_not_exist_is_said(tmp_path):
    found, notes = read(
        put(tmp_path, {"alice/x.ipynb": written(['start_lab("77_no_such_lab", seed=0)'])})
    )
    assert (
        f"it calls itself '77_no_such_lab', and there is no such lab; the labs are {LAB}, {OTHER}"
        in notes
    )
    assert found["alice", ""].problem in notes
    found, _ = read(tmp_path, lab=OTHER)
    assert not found["alice", OTHER].problem, "unless the instructor says which it is"


# ----------------------------------------------------------------------------- bad zips and folders
def encrypted() -> bytes:
    """A zip that says it is encrypted."""
    data = bytearray(zipped({"90_made_up_lab.ipynb": NOTEBOOK}))
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(mark) + offset] |= 1
    return bytes(data)


def nested(depth: int) -> bytes:
    data = zipped({"90_made_up_lab.ipynb": NOTEBOOK})
    for _ in range(depth):
        data = zipped({"inner.zip": data})
    return data


BAD_ZIPS = {
    "no zip": (b"this is no zip", "not a readable zip"),
    "cut off": (zipped({"90_made_up_lab.ipynb": NOTEBOOK})[:-30], "not a readable zip"),
    "damaged": (
        zipped({"90_made_up_lab.ipynb": NOTEBOOK}).replace(b"\x00\x08", b"\x00\x63"),
        "zip|cannot be read",
    ),
    "encrypted": (encrypted(), "cannot be read from the archive.*(password|encrypted)"),
    "empty": (zipped({"__MACOSX/._lab.ipynb": b"", "folder/": b""}), "the zip is empty"),
    "too deep": (nested(6), "nested deeper than 4"),
    "a path out": (
        zipped({"../../../etc/90_made_up_lab.ipynb": NOTEBOOK}),
        "leads out of the folder",
    ),
    "an absolute path": (
        zipped({"/etc/90_made_up_lab.ipynb": NOTEBOOK}),
        "leads out of the folder",
    ),
    "a path out, with backslashes": (
        zipped({"..\\..\\90_made_up_lab.ipynb": NOTEBOOK}),
        "leads out of the folder",
    ),
}


@pytest.mark.parametrize("name", BAD_ZIPS)
def test_a_bad_zip_costs_nobody_else(name, tmp_path):
    data, said = BAD_ZIPS[name]
    before = set(os.listdir("/etc"))
    found, notes = read(put(tmp_path, {"alice/lab.zip": data, "bob/lab.ipynb": NOTEBOOK}))
    assert not found["bob", LAB].problem and len(found) == 2
    problem = next(entry.problem for (student, _), entry in found.items() if student == "alice")
    assert re.search(said, problem) and problem in notes
    assert set(os.listdir("/etc")) == before


def test_zip_bombs_end_at_the_limit_of_their_student(tmp_path):
    """Tiny files without end, or many large ones: their student has a row that says so, and those
    before and after have theirs as if nothing had been.
    """
    tiny = zipped({f"{i}.txt": b"" for i in range(reading.STUDENT_FILES + 1)})
    blanks = zipped({f"{i}/90_made_up_lab.ipynb": b" " * (49 * 10**6) for i in range(5)})
    large = zipped({"90_made_up_lab.ipynb": b" " * (reading.FILE_BYTES + 1)})
    code = written(["x = 1\n" * 10**6])
    files = {"alice.ipynb": NOTEBOOK, "zoe.ipynb": NOTEBOOK}
    files |= {"many.zip": tiny, "blanks.zip": blanks, "large.zip": large, "code.ipynb": code}
    found, notes = read(put(tmp_path, files))
    assert not found["alice", LAB].problem and not found["zoe", LAB].problem
    said = {student: entry.problem for (student, _), entry in found.items()}
    assert "2,000 files of one student; the rest was not read" in said["many"]
    assert "the file is empty" in said["blanks"] or "200 MB" in said["blanks"]
    assert "200 MB or 2,000 files of one student" in notes
    assert "larger than 50 MB" in said["large"] and "more than 4 MB of code" in said["code"]


def test_links_pipes_and_folders_that_look_like_notebooks(tmp_path):
    put(tmp_path, {"bob/lab.ipynb": NOTEBOOK, "secret.ipynb": NOTEBOOK})
    for name in ("alice", "carol", "dan"):
        (tmp_path / "in" / name).mkdir(parents=True)
    (tmp_path / "in" / "alice" / "90_made_up_lab.ipynb").symlink_to(tmp_path / "secret.ipynb")
    (tmp_path / "in" / "alice" / "more").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "in" / "carol" / "90_made_up_lab.ipynb")
    (tmp_path / "in" / "dan" / "90_made_up_lab.ipynb").mkdir()
    put(tmp_path / "in" / "bob", {"lab.ipynb": NOTEBOOK})
    found, _ = read(tmp_path / "in")
    assert {student for student, _ in found} == {"alice", "bob", "carol", "dan"}
    assert all(
        ("the folder is empty" if student == "dan" else "a link or a special file") in entry.problem
        for (student, _), entry in found.items()
        if student != "bob"
    )


def test_empty_folders_and_absent_paths_are_said(tmp_path):
    found, notes = read(tmp_path, tmp_path / "absent")
    assert (
        not found
        and f"{tmp_path}: no notebook in it" in notes
        and "there is no such file or folder" in notes
    )


def test_an_empty_folder_is_somebody_who_handed_in_nothing(tmp_path):
    put(tmp_path, {"Al_1_assignsubmission_file_/90_made_up_lab.ipynb": NOTEBOOK})
    (tmp_path / "Bo_2_assignsubmission_file_").mkdir()
    (tmp_path / "Al_1_assignsubmission_file_" / "nothing here").mkdir()
    found, notes = read(tmp_path)
    assert len(found) == 2 and notes.count("UNREAD") == 1
    assert "the folder is empty" in found["Bo (2)", ""].problem and "UNREAD" in notes
    assert not found["Al (1)", LAB].problem


def test_a_single_notebook_can_be_given(tmp_path):
    found, _ = read(put(tmp_path, {"Jane's work.ipynb": NOTEBOOK}) / "Jane's work.ipynb")
    assert set(found) == {("Jane's work", LAB)}


def test_a_notebook_counts_before_a_script_and_other_scripts_are_nothing(tmp_path):
    script = b"def double(x): return x"
    found, _ = read(
        put(
            tmp_path,
            {
                "alice/lab.ipynb": NOTEBOOK,
                "alice/90_made_up_lab.py": script,
                "alice/torch.py": b"evil = 1",
                "bob/export.py": script,
            },
        )
    )
    assert set(found) == {("alice", LAB), ("bob", LAB)}
    assert found["alice", LAB].file == "alice/lab.ipynb" and found["bob", LAB].cells == (
        script.decode(),
    )


@pytest.mark.parametrize(
    "data, said",
    [
        (b"", "empty"),
        (b"   \n", "empty"),
        (b"{", "broken JSON"),
        (b"[]", "holds no cells"),
        (b'"text"', "holds no cells"),
        (b"[" * 10**5, "nested|JSON"),
        (b'{"cells": {"a": 1}}', "no list"),
    ],
)
def test_what_is_no_notebook(data, said):
    with pytest.raises(ValueError, match=said):
        read_cells(data)


def test_a_notebook_without_code_has_no_cells():
    assert read_cells(written(["## only words"])) == () and read_cells(b"{}") == ()


# ------------------------------------------------------------------ nobody speaks for somebody else
ZOE = "Zoe_42_assignsubmission_file_"
FORGED = b"submission_1:\n  :submitters:\n  - :name: Zoe\n    :sid: 42\n  :created_at: 1999-01-01\n"


@pytest.mark.parametrize(
    "files",
    [
        {f"{ZOE}/90_made_up_lab.ipynb": NOTEBOOK},
        {f"x/{ZOE}/90_made_up_lab.ipynb": NOTEBOOK},
        {"zoe_42_678901_90_made_up_lab.ipynb": NOTEBOOK},
        {"submission_metadata.yml": FORGED, "submission_1/90_made_up_lab.ipynb": NOTEBOOK},
    ],
    ids=["moodle", "moodle, deeper", "canvas", "gradescope"],
)
@pytest.mark.parametrize("form", ["folder", "zip"])
def test_names_in_a_student_s_archive_are_nobody_s(files, form, tmp_path):
    """Mallory's zip is Mallory's, in a Moodle export as in plain folders; Zoe keeps her own."""
    zoes = written([*HONEST, "# zoe's"])
    exports_of = {
        "moodle": {
            f"{ZOE}/90_made_up_lab.ipynb": zoes,
            "Mallory_7_assignsubmission_file_/x.zip": zipped(files),
        },
        "plain": {"Zoe (42)/90_made_up_lab.ipynb": zoes, "Mallory (7)/x.zip": zipped(files)},
    }
    for kind, export in exports_of.items():
        path = put(tmp_path / kind, export)
        if form == "zip":
            path = tmp_path / f"{kind}.zip"
            path.write_bytes(zipped(export))
        found, _ = read(path)
        assert {student for student, _ in found} == {"Zoe (42)", "Mallory (7)"}
        assert found["Zoe (42)", LAB].cells[-1] == "# zoe's"
        assert "1999" not in found["Mallory (7)", LAB].submitted


def test_gradescope_s_metadata_is_believed_at_the_top_alone(tmp_path):
    inside = {"submission_1001/submission_metadata.yml": FORGED.replace(b"_1:", b"_1001:")}
    found, _ = read(put(tmp_path, {**GRADESCOPE, **inside}))
    assert ("Jane Doe (111)", LAB) in found and not any("Zoe" in who for who, _ in found)


@pytest.mark.parametrize("form", ["folder", "zip", "tar.gz"])
def test_one_top_folder_is_no_student(form, tmp_path):
    files = {f"submissions/{who}/90_made_up_lab.ipynb": NOTEBOOK for who in ("al", "bob", "cy")}
    found, _ = read(pack(tmp_path, files, form))
    assert set(found) == {(who, LAB) for who in ("al", "bob", "cy")}


def pack(folder, files, form):
    """The files as a folder, a zip or a tar."""
    if form == "folder":
        return put(folder / "in", files)
    path = folder / f"export.{form}"
    if form == "zip":
        path.write_bytes(zipped(files))
        return path
    with tarfile.open(path, "w:gz") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(data), 1.7e9
            archive.addfile(info, io.BytesIO(data))
    return path


def test_different_notebooks_in_different_folders_are_refused_by_name(tmp_path):
    files = {
        "alice/a/90_made_up_lab.ipynb": NOTEBOOK,
        "alice/b/90_made_up_lab.ipynb": written([*HONEST, "# another"]),
        "bob/a/90_made_up_lab.ipynb": NOTEBOOK,
        "bob/b/90_made_up_lab.ipynb": NOTEBOOK,
    }
    found, notes = read(put(tmp_path, files))
    assert "alice/a/90_made_up_lab.ipynb, alice/b" in found["alice", LAB].problem
    assert found["alice", LAB].problem in notes and not found["bob", LAB].problem


# ------------------------------------------------------------------------------ exports as they are
@pytest.mark.parametrize(
    "names, students",
    [
        (
            ["anon_4kqPz_9001_x.ipynb", "LATE_anon_7abCd_9002_x.ipynb"],
            ["anon (4kqPz)", "anon (7abCd)"],
        ),
        (["red_team_12_3456_x.ipynb", "blue_LATE_13_3457_x.ipynb"], ["red_team (12)", "blue (13)"]),
        (["a_12_text.html", "b_13_3456_x.ipynb"], ["a (12)", "b (13)"]),
        (
            ["lab_2026_11_alice.ipynb", "lab_2026_11_bob.ipynb"],
            ["lab_2026_11_alice", "lab_2026_11_bob"],
        ),
        (
            ["hw_20_2026_alice.ipynb", "hw_20_2026_bob.ipynb"],
            ["hw_20_2026_alice", "hw_20_2026_bob"],
        ),
        (["a_12_3456_x.ipynb", "notes.ipynb"], ["a_12_3456_x", "notes"]),
    ],
)
def test_canvas_is_believed_where_it_fits_the_whole_export(names, students, tmp_path):
    found, _ = read(put(tmp_path, {name: NOTEBOOK for name in names}))
    assert sorted({student for student, _ in found}) == sorted(students)


def test_canvas_s_late_is_kept(tmp_path):
    found, _ = read(put(tmp_path, {"LATE_anon_7abCd_9002_x.ipynb": NOTEBOOK}))
    assert found["anon (7abCd)", LAB].late


def test_composed_and_decomposed_names_are_one_student(tmp_path):
    files = {"Zoe\u0301_7_assignsubmission_file_/90_made_up_lab.ipynb": NOTEBOOK}
    files |= {"Zo\u00e9_7_assignsubmission_file_/91_another_lab.ipynb": OTHER_NOTEBOOK}
    found, _ = read(put(tmp_path, files))
    assert set(found) == {("Zo\u00e9 (7)", LAB), ("Zo\u00e9 (7)", OTHER)}


@pytest.mark.parametrize(
    "name, encoding", [("Jos\u00e9", "cp437"), ("Jos\u00e9", "utf-8"), ("\u674e\u660e", "gbk")]
)
def test_names_in_a_zip_without_the_flag_for_utf_8(name, encoding, tmp_path):
    packed = zipped({f"{'x' * len(name.encode(encoding))}/90_made_up_lab.ipynb": NOTEBOOK})
    raw = name.encode(encoding)
    (tmp_path / "a.zip").write_bytes(packed.replace(b"x" * len(raw) + b"/", raw + b"/"))
    found, _ = read(tmp_path / "a.zip")
    assert set(found) == {(name, LAB)}


@pytest.mark.parametrize(
    "name, said",
    [
        ("lab.rar", "this is a .rar; ask for .ipynb or .zip"),
        ("lab.7z", "this is a .7z"),
        ("essay.pdf", "this is a .pdf"),
        ("data.json", "this is a .json"),
    ],
)
def test_what_is_no_notebook_is_named_with_its_ending(name, said, tmp_path):
    found, _ = read(put(tmp_path, {f"alice/{name}": b"{}x", "bob/lab.ipynb": NOTEBOOK}))
    assert said in found["alice", ""].problem


@pytest.mark.parametrize("name", ["90.ipynb (1)", "90.json", "a.tar", "a.tar.gz", "a.tgz", "a.zip"])
def test_a_notebook_in_other_clothes(name, tmp_path):
    data = NOTEBOOK
    if ".t" in name or name.endswith("zip"):
        form = "zip" if name.endswith("zip") else "tar.gz"
        data = pack(
            tmp_path, {"__MACOSX\\._x.ipynb": b"junk", "x/90.ipynb": NOTEBOOK}, form
        ).read_bytes()
    found, _ = read(put(tmp_path / "class", {f"alice/{name}": data, "bob/lab.ipynb": NOTEBOOK}))
    assert set(found) == {("alice", LAB), ("bob", LAB)}


@pytest.mark.parametrize(
    "name, number",
    [
        ("lab (2).ipynb", 2),
        ("lab-2.ipynb", 2),
        ("Lab 2.ipynb", 0),
        ("lab_2.ipynb", 0),
        ("2.ipynb", 0),
    ],
)
def test_the_number_of_a_copy(name, number):
    assert copy_number(name) == number


def test_two_labs_in_one_notebook_are_both_there(tmp_path):
    cells = [f'start_lab("{LAB}")', f'start_lab("{OTHER}")', "def double(x): return 2 * x"]
    found, _ = read(put(tmp_path, {"alice/x.ipynb": written(cells)}))
    assert set(found) == {("alice", LAB), ("alice", OTHER)}


# ------------------------------------------------------------- whatever is read, the batch goes on
def test_a_reader_that_hangs_costs_its_student_alone():
    with exports.Reader() as reader:
        reader.start()
        reader.process.send_signal(signal.SIGSTOP)
        answer = reader.ask(0.3, do="student", files=[], labs={}, lab=None)
        assert answer == {"problem": "reading it took more than 0 s"}
        assert reader.ask(20, do="student", files=[], labs={}, lab=None) == {"found": []}


def test_what_needs_too_much_memory_costs_its_student_alone(tmp_path):
    grows = b'{"cells": [' + b'{"":0},' * 7_000_000 + b"0]}"
    deep = b"[" * 10**7 + b"]" * 10**7
    files = {"alice.ipynb": NOTEBOOK, "deep.ipynb": deep, "grows.ipynb": grows}
    found, _ = read(put(tmp_path, {**files, "zoe.ipynb": NOTEBOOK}))
    assert not found["alice", LAB].problem and not found["zoe", LAB].problem
    assert "memory" in found["grows", ""].problem and "nested" in found["deep", ""].problem


def test_metadata_of_many_megabytes_or_aliases_costs_nothing(tmp_path):
    aliases = b"a: &a [x, x]\n" + b"".join(
        b"%c: &%c [*%c, *%c]\n" % (98 + i, 98 + i, 97 + i, 97 + i) for i in range(20)
    )
    for data in (aliases, b"- {a: [b, c]}\n" * 20_000, b"[" * 10**6, b" " * 8 * 10**6):
        found, _ = read(put(tmp_path, {**GRADESCOPE, "submission_metadata.yml": data}))
        assert len(found) == 3


NAMES = st.text(
    st.characters(exclude_characters="\0/", exclude_categories=("Cs",)), min_size=1, max_size=30
) | st.sampled_from(
    ["(" * 60_000, "_1" * 20_000, ZOE, "..", "\\..\\x", "a_12_3456_", "\x1b[2J", "LATE_anon_"]
)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(NAMES, st.binary(max_size=200)), min_size=1, max_size=8))
def test_any_name_and_content_ends_and_leaves_the_neighbours(rows):
    """Two neighbours in folders of their own, anything at all beside them, as one zip."""
    files = {"alice/90_made_up_lab.ipynb": NOTEBOOK, "zoe/90_made_up_lab.ipynb": NOTEBOOK}
    for name, data in rows:
        name = name.encode()[:60_000].decode(errors="ignore")
        files.setdefault(f"mallory/{name}.ipynb", data)
        files.setdefault(f"mallory/{name}.zip", zipped({name or "x": data}))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "export.zip")
        path.write_bytes(zipped(files))
        found, _ = read(path)
    assert not found["alice", LAB].problem and not found["zoe", LAB].problem
    assert {student for student, _ in found} == {"alice", "zoe", "mallory"}
