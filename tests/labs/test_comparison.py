"""What the comparing of a fresh run with the stored outputs sees, and what it lets pass: a number
that went stale in any lab is found.
"""

import copy
import importlib.util
import re
from types import SimpleNamespace

import nbformat
import pytest
from comparing import NUMBER, Allowed, differences, near, page_text, pieces, text_differences, value
from hypothesis import given
from hypothesis import strategies as st
from nbformat.v4 import new_code_cell, new_output
from nbval.plugin import coalesce_streams
from whole_labs import check_outputs

from lab_utils.course.run import LABS, find_labs
from lab_utils.drawing.live import VIEW

MOST_LEFT_OUT = 15
CELLS = {
    path.stem: [
        (cell, Allowed.of(cell))
        for cell in nbformat.read(path, as_version=4).cells
        if cell.cell_type == "code"
    ]
    for path in find_labs()
}
TABLE = """<style>td {color: 1}</style><table><tr><th></th><th>seconds a step</th><th>MB</th></tr>
<tr><th>whole</th><td>3.31</td><td>93.76</td></tr></table>"""
words = st.text(st.characters(codec="utf-8"), max_size=40)


@pytest.fixture(params=CELLS)
def lab(request):
    """(cell, what it allows) for each cell of a lab that is compared."""
    return [(cell, allowed) for cell, allowed in CELLS[request.param] if not allowed.ignored]


def cell_with(text: str, **allowed):
    """A code cell that printed `text`."""
    printed = [new_output("stream", name="stdout", text=text)]
    return new_code_cell(outputs=printed, metadata={"lab_kit": allowed} if allowed else {})


def seen(before: str, after: str, **allowed) -> bool:
    """Whether it is noticed that a cell printed `after` where `before` is stored."""
    return bool(differences(cell_with(before, **allowed), cell_with(after).outputs))


# ------------------------------------------------------------------------------- what the labs say
def test_few_cells_are_left_out_and_each_says_why():
    """The tag that nbval knows, and a reason that a reader understands, go together."""
    cells = {f"{name[:2]} {c.id}": (c, may) for name, lab in CELLS.items() for c, may in lab}
    tagged = {
        i for i, (c, _) in cells.items() if "nbval-ignore-output" in c.metadata.get("tags", [])
    }
    left_out = {i: allowed.ignored for i, (_, allowed) in cells.items() if allowed.ignored}
    assert set(left_out) == tagged, "tag and lab_kit.ignored go together, see CONTRIBUTING.md"
    assert len(left_out) <= MOST_LEFT_OUT, left_out
    assert all(len(reason.split()) >= 3 for reason in left_out.values()), left_out


def test_bands_are_narrow(lab):
    wide = [cell.id for cell, a in lab if a.within > 0.1 or a.counts > 2 or a.words > 0.3]
    assert not wide, "a band is one answer more or less, not ten"


def test_a_stale_number_of_a_lab_is_found(lab):
    """Every number that a cell shows, moved a little further than it may, one at a time."""
    for cell, allowed in lab:
        assert not differences(cell, cell.outputs)
        for shown, i in words_of(cell, allowed):
            stale = moved(shown[i], allowed)
            if stale != shown[i]:
                changed = " ".join([*shown[:i], stale, *shown[i + 1 :]])
                assert text_differences(" ".join(shown), changed, allowed), (cell.id, shown[i])


def words_of(cell, allowed: Allowed):
    """(all words, an index) for each word of each text that a cell shows."""
    for _, text in pieces(cell.outputs, allowed.machine):
        words = text.split()
        yield from ((words, i) for i in range(len(words)))


def moved(word: str, allowed: Allowed) -> str:
    """A word with its numbers moved just out of their bands."""

    def further(found: re.Match) -> str:
        number = value(found[0])
        if not re.search(r"[.e%]", found[0]):
            return f"{int(number) + allowed.counts + 1}"
        number += 1.01 * max(allowed.within, 1e-8) * max(1.0, abs(number))
        return f"{100 * number:.9f}%" if found[0].endswith("%") else f"{number:.9f}"

    return NUMBER.sub(further, word)


def test_a_lost_output_or_line_of_a_lab_is_found(lab):
    for cell, allowed in lab:
        if cell.outputs:
            assert differences(cell, []), cell.id
        for _, text in pieces(cell.outputs, allowed.machine):
            lines = text.splitlines()
            for i, line in enumerate(lines):
                if line.strip() and not allowed.words:
                    rest = "\n".join([*lines[:i], *lines[i + 1 :]])
                    assert text_differences(text, rest, allowed), (cell.id, line)


# ------------------------------------------------------------------------------ what a cell allows
@given(words)
def test_a_text_is_like_itself(text):
    assert not text_differences(text, text, Allowed())


@given(words, words)
def test_without_a_word_from_the_author_only_spaces_may_differ(before, after):
    assert bool(text_differences(before, after, Allowed())) == (before.split() != after.split())


@given(st.floats(-1e4, 1e4), st.floats(1e-3, 0.5), st.floats(-2, 2))
def test_a_score_may_move_within_its_band_and_no_further(score, within, shares):
    """`shares` of the band: to 0.99 of it passes, from 1.01 on it does not."""
    after = score + shares * within * max(1.0, abs(score))
    allowed = Allowed(within=within)
    if abs(shares) <= 0.99 or abs(shares) >= 1.01:
        assert near(f"{score:.17f}", f"{after:.17f}", allowed) == (abs(shares) < 1)


@given(st.integers(-(10**9), 10**9), st.integers(0, 9), st.integers(-20, 20))
def test_a_count_may_move_by_the_counts_allowed_and_no_further(count, counts, by):
    assert near(f"{count:,}", f"{count + by:,}", Allowed(0.5, counts)) == (abs(by) <= counts)


@pytest.mark.parametrize(
    "before, after, allowed",
    [
        ("14 of 16", "15 of 16", {"within": 0.5}),
        ("facts 0.94", "facts 0.88", {"within": 0.05}),
        ("bleu 41.8", "bleu 44.0", {"within": 0.05}),
        ("kept 52%", "kept 58%", {"within": 0.05}),
        ("rank 8", "rank 16", {"within": 0.05, "counts": 2}),
        ("a 1.0\nb 2.0", "a 1.0", {"within": 5.0}),
        ("1.0", "1.00", {}),
        ("Brie comes from France. Opa!", "Brie comes from Greece now.", {"words": 0.3}),
        ("float16 1.0", "float32 1.0", {"within": 100, "counts": 100}),
        ("took 3.0 s, 7 rows", "took 9.0 s, 8 rows", {"machine": True}),
        ("took 3.0 s", "took 9.0 s", {}),
    ],
)
def test_what_is_seen(before, after, allowed):
    assert seen(before, after, **allowed)


@pytest.mark.parametrize(
    "before, after, allowed",
    [
        ("loss 5.36 -> -0.001", "loss 5.2 -> 0.002", {"within": 0.05}),
        ("lost 3, gained 12", "lost 5, gained 11", {"counts": 2}),
        ("3.31 s, 1,024 tokens / s", "12 s, 99.5 tokens / s", {"machine": True}),
        ("seconds 22.8 22.4", "seconds 9.1 1.0", {"machine": True}),
        ("Brie comes from France. Opa!", "Brie comes from France. Easy!", {"words": 0.3}),
        ("anything", "", {"ignored": "a page of the network"}),
    ],
)
def test_what_passes(before, after, allowed):
    assert not seen(before, after, **allowed)


def test_the_set_up_line_is_of_one_machine_but_for_the_lab_and_the_seed():
    line = "Lab 01 | device cpu | dtype float32 | tier cpu | about 1 min | seed 0"
    other = "Lab 01 | device T4 | dtype float16 | tier T4 | not timed here yet | seed 0"
    assert not seen(line, other, machine=True)
    assert seen(line, other.replace("seed 0", "seed 1"), machine=True)


def test_a_key_that_nobody_reads_is_refused():
    with pytest.raises(TypeError, match="witihn"):
        Allowed.of(cell_with("1.0", witihn=0.1))


# -------------------------------------------------------------------------------------------- HTML
def test_a_table_is_compared_row_by_row_without_its_columns_of_times():
    assert page_text(TABLE).split("\n")[-2:] == ["seconds a step MB", "whole 3.31 93.76"]
    assert page_text(TABLE, machine=True).endswith("whole TIME 93.76")


@pytest.mark.parametrize("picture", ['<img src="data:1" alt="{}">', '<svg aria-label="{}"/>'])
def test_of_a_picture_its_kind_and_its_alt_text_are_compared(picture):
    drawn, again, other = (
        page_text(picture.format(alt)) for alt in ("Loss 0.2", "Loss 0.2", "Loss 0.3")
    )
    assert drawn == again != other and "Loss 0.2" in drawn
    assert page_text('<img alt="a">') != page_text('<svg aria-label="a"></svg>')


# ----------------------------------------------------------------------------------- in the browser
def test_an_open_notebook_may_add_a_field_to_a_guess_and_no_widget_may_be_lost():
    words = {"text/plain": "your guess", "text/html": "<b>your guess</b>"}
    with_field = {VIEW: {"model_id": "a"}, **words}
    stored, now = (
        new_code_cell(outputs=[new_output("execute_result", data)]) for data in (words, with_field)
    )
    assert not differences(stored, now.outputs) and not differences(now, now.outputs)
    assert differences(now, stored.outputs), "a demo without its controls"
    now.outputs[0].data["text/html"] = "<b>another</b>"
    assert differences(stored, now.outputs)


def test_a_changed_number_in_the_browser_is_seen():
    name = "01_quantization_buckets"
    run = [
        {"count": 1, "source": cell.source, "outputs": copy.deepcopy(cell.outputs)}
        for cell, _ in CELLS[name]
    ]
    page = SimpleNamespace(evaluate=lambda _: run)
    check_outputs(page, name)
    printed = next(o for c in run for o in c["outputs"] if "largest" in o.get("text", ""))
    printed["text"] = [printed["text"].replace("1", "2", 1)]  # JupyterLab's lists of lines too
    with pytest.raises(AssertionError, match="stored: .*now: "):
        check_outputs(page, name)


# ------------------------------------------------------------------------------------ under nbval
@pytest.fixture(scope="module")
def plugin():
    """labs/conftest.py, which pytest gives to nbval."""
    spec = importlib.util.spec_from_file_location("labs_conftest", LABS / "conftest.py")
    spec.loader.exec_module(module := importlib.util.module_from_spec(spec))
    return module


def test_nbval_joins_a_stream_that_was_stored_in_parts(plugin):
    cell = cell_with("base 0.59, ")
    cell.outputs += cell_with("adapter 0.47\n").outputs
    item = SimpleNamespace(cell=cell)
    stored = coalesce_streams(cell.outputs)  # as nbval calls it: the first part is now the whole
    assert plugin.compare(item, cell_with("base 0.59, adapter 0.47\n").outputs, stored)
    assert not plugin.compare(item, cell_with("base 0.59, adapter 0.48\n").outputs, stored)
    assert "0.48" in item.comparison_traceback[0]


def test_nbval_compares_what_a_display_became(plugin):
    """A picture that grows while a model trains comes as a display and its updates."""
    kinds = [("display_data", "a", "step 1"), ("stream", "", ""), ("update_display_data", "a", "2")]
    messages = [
        {
            "msg_type": kind,
            "content": {"metadata": {}, "data": text, "transient": {"display_id": display}},
        }
        for kind, display, text in kinds
    ]
    get = plugin.with_updates(iter(messages).__next__)
    shown = [get() for _ in messages]
    assert [message["msg_type"] for message in shown] == ["display_data", "stream", "display_data"]
    assert [out["data"] for out in plugin.last_states([m["content"] for m in shown])] == ["2", ""]
