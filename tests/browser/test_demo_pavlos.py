"""The demos of lab 05 in a real browser: a fault is chosen; by keyboard a threshold is moved, and
pairs are judged.
"""

import re

import pytest
from playwright.sync_api import expect

from lab_utils.pavlos import demos as widgets
from lab_utils.pavlos.build import facts_by_id
from lab_utils.pavlos.corpus import build_pairs
from lab_utils.pavlos.judge import with_controls

pytestmark = pytest.mark.browser

VOTE = """
from lab_utils.pavlos.judge import with_controls
from lab_utils.pavlos.build import facts_by_id
from lab_utils.pavlos.corpus import build_pairs
from lab_utils.pavlos.demos import BrowseAndVote
facts = facts_by_id()
BrowseAndVote(with_controls(build_pairs(0)["test"][:6], facts, seed=0), facts)
"""


def test_a_fault_is_chosen(open_demo):
    page = open_demo("from lab_utils.pavlos.demos import fault_browser\nfault_browser()")
    output = page.locator(".jp-OutputArea-output")
    output.get_by_text(widgets.draw_fault("clean list").description).wait_for()
    chooser = page.get_by_label("reply")
    chooser.select_option("cut off: cut in an answer")
    output.get_by_text(widgets.draw_fault("cut in an answer").description).wait_for()
    output.get_by_text("cut off (finish reason MAX_TOKENS)").first.wait_for()


def test_the_threshold_is_moved_by_keyboard(open_demo):
    page = open_demo(
        "from lab_utils.pavlos.corpus import build_pairs\nfrom lab_utils.pavlos.demos import "
        "duplicates_demo\nduplicates_demo(build_pairs(0)['test'][:60])"
    )
    rows = build_pairs(0)["test"][:60]
    alike = widgets.alike_questions(rows)

    def saying(threshold):
        description = widgets.draw_duplicates(threshold, rows, alike).description
        page.locator(f'.jp-OutputArea-output svg[role=img][aria-label="{description}"]').wait_for()

    saying(0.7)
    handle = page.get_by_role("slider")
    handle.focus()
    handle.press("ArrowLeft")
    handle.press("ArrowLeft")
    saying(0.6)
    handle.press("End")
    saying(1.0)


def test_a_pair_is_read_and_judged_by_two(open_demo):
    page = open_demo(VOTE)
    facts = facts_by_id()
    rows = with_controls(build_pairs(0)["test"][:6], facts, seed=0)
    output = page.locator(".jp-OutputArea-output")
    output.get_by_text(rows[0]["answer"], exact=True).wait_for()

    def press(name, place=0):
        button = page.get_by_role("button", name=name, exact=True).nth(place)
        button.focus()
        page.keyboard.press("Enter")

    def chosen(voice, truth):
        """The kernel's answer is there: a key pressed before it would be overruled by it, and the
        vote be lost.
        """
        for name, place in ((voice, 0), (truth, 1)):
            button = page.get_by_role("button", name=name, exact=True).nth(place)
            expect(button).to_have_class(re.compile(r"\bmod-active\b"))

    press("yes", 0)  # voice
    press("no", 1)  # truth
    press("next ▶")
    output.get_by_text(rows[1]["answer"], exact=True).wait_for()
    chosen("not yet", "not yet")
    press("◀ before")
    output.get_by_text(rows[0]["answer"], exact=True).wait_for()
    chosen("yes", "no")
    press("B")
    chosen("not yet", "not yet")
    press("yes", 0)
    press("yes", 1)
    page.locator(
        'svg[role=img][aria-label*="voice: agree on 100% of 1, kappa: not defined"]'
    ).wait_for()
    page.locator('svg[role=img][aria-label*="truth: agree on 0% of 1, kappa 0.00"]').wait_for()
