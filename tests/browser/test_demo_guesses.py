"""A guess in JupyterLab, as a student makes it: a number is typed and kept, by keyboard, and told
beside what was measured.
"""

import pytest
from driving import contrasts

from lab_utils.files import read_jsonl

pytestmark = pytest.mark.browser

ASKED = """
from pathlib import Path
from lab_utils.checking import guess, reveal
from lab_utils.start.lab import LabInfo
info = LabInfo("02_double_quantization", None, 1, 0, Path({folder!r}))
guess("bits per weight", None)
"""
RUN_BELOW = """async code => { const {commands, shell} = jupyterapp;
    await commands.execute('notebook:insert-cell-below');
    shell.currentWidget.content.activeCell.model.sharedModel.setSource(code);
    await commands.execute('notebook:run-cell'); }"""
RUN_FIRST = """async () => { const {commands, shell} = jupyterapp;
    shell.currentWidget.content.activeCellIndex = 0;
    await commands.execute('notebook:run-cell'); }"""


def test_a_typed_guess_is_kept_and_told_beside_what_was_measured(open_demo, tmp_path):
    page = open_demo(ASKED.format(folder=str(tmp_path)))
    field = page.get_by_role("textbox", name="bits per weight")
    said = page.locator(".lab-kit-demo [role=status]")

    def keep(words):
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        said.get_by_text(words).wait_for()

    field.focus()
    page.keyboard.type("four")
    keep("four is no number")
    assert page.get_by_role("button", name="keep").evaluate("e => e === document.activeElement")
    field.fill("4.5")
    keep("bits per weight: your guess is 4.5")
    page.evaluate(RUN_FIRST)
    said.get_by_text("your guess is 4.5").wait_for()
    assert field.input_value() == "4.5", "kept when the cell runs again"
    field.fill("5")
    field.press("Enter")
    said.get_by_text("your guess is 5").wait_for()
    assert page.locator(".lab-kit-picture").get_attribute("aria-live") == "polite"
    pale = [words for words in contrasts(page, ".lab-kit-demo *") if words[1] < 4.5]
    assert not pale, pale

    page.evaluate(RUN_BELOW, 'reveal("bits per weight", 4.127)')
    page.get_by_text("measured 4.13, you guessed 5: 21% too high").wait_for()
    page.evaluate(RUN_FIRST)
    page.locator(".jp-OutputArea-output [role=status]").nth(1).wait_for()
    assert field.count() == 0, "no field once the value was told"
    assert [row.get("guess") for row in read_jsonl(tmp_path / "guesses.jsonl")] == [4.5, 5, None]
