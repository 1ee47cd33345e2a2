"""What holds for every demo, in JupyterLab: names, keyboard, a picture that speaks, nothing that
jumps, dark theme, zoom.

One page and one kernel, in which one demo after the other is shown; what a demo shows is tested in
the file of its own.
"""

import contextlib

import pytest
from bench.browsing import show_demo
from bench.widgets import CONTROLS, IN_LAB, WATCH, name_of, spread, sweep
from driving import contrasts
from playwright.sync_api import TimeoutError

from lab_utils.course.stage import DEMOS

pytestmark = pytest.mark.browser

WITHOUT_A_MODEL = [name for name, demo in DEMOS.items() if not demo.needs]
UNNAMED = """() => {
    const kinds = '[role=slider], [contenteditable=true], select, input, button';
    const name = e => e.ariaLabel || e.labels?.[0]?.textContent || e.textContent.trim();
    return [...document.querySelectorAll(`.lab-kit-demo :is(${kinds})`)].filter(e =>
        e.checkVisibility() && !name(e))
        .map(e => e.outerHTML); }"""
SPOKEN = """picture => { const drawn = picture.querySelector('svg[role=img]');
    return drawn ? drawn.ariaLabel : picture.querySelector('[role=status]').textContent; }"""
WORDS = """() => { const page = e => { const b = e.getBoundingClientRect(); return [b.left, b.top,
    b.right, b.bottom]; };
    const drawn = document.querySelector('.lab-kit-picture svg[role=img]');
    const words = () => [...drawn.querySelectorAll('text')].map(e => [e.textContent, ...page(e)]);
    return drawn ? {frame: page(drawn), words: words()} : null; }"""
CUT = """() => {
    const edge = document.querySelector('.jp-OutputArea-output:has(.lab-kit-demo)')
        .getBoundingClientRect().right + 1;
    const kinds = 'svg[role=img], .slider, select, input, button, label, [role=status]';
    const cut = e => e.getBoundingClientRect().right > edge || e.matches('button') &&
        e.scrollWidth > e.clientWidth + 1;
    return [...document.querySelectorAll(`.lab-kit-demo :is(${kinds})`)].filter(e =>
        e.checkVisibility() && cut(e))
        .map(e => e.outerHTML.slice(0, 80)); }"""


@pytest.fixture(scope="module", params=WITHOUT_A_MODEL)
def page(request, notebook):
    """The page that shows a demo; an error on it or in a callback fails the demo's last test."""
    page, watch = notebook
    page.set_viewport_size({"width": 1200, "height": 900})
    show_demo(page, request.param)
    page.evaluate(WATCH, IN_LAB[1])
    yield page
    watch.check()


def overlaps(words: list) -> list[str]:
    """Pairs of texts whose boxes cover each other by more than a quarter of the smaller one's."""
    found = []
    for i, (one, left, top, right, bottom) in enumerate(words):
        for other, left_2, top_2, right_2, bottom_2 in words[i + 1 :]:
            wide, high = (
                min(right, right_2) - max(left, left_2),
                min(bottom, bottom_2) - max(top, top_2),
            )
            smaller = min((right - left) * (bottom - top), (right_2 - left_2) * (bottom_2 - top_2))
            if wide > 0 and high > 0 and wide * high > 0.25 * smaller:
                found.append(f"{one!r} and {other!r}")
    return found


def check_words(page) -> None:
    """No word leaves the picture, none covers another."""
    drawn = page.evaluate(WORDS)
    if drawn:
        left, top, right, bottom = drawn["frame"]
        outside = [
            word
            for word, x, y, x_2, y_2 in drawn["words"]
            if x < left - 1 or y < top - 1 or x_2 > right + 1 or y_2 > bottom + 1
        ]
        assert not outside and not overlaps(drawn["words"])


def test_every_control_has_a_name_and_tab_reaches_it_in_reading_order(page):
    assert page.evaluate(UNNAMED) == []
    controls = page.locator(".lab-kit-demo").locator(CONTROLS).all()
    names = [name_of(control) for control in controls]
    assert all(names) and len(set(names)) == len(names), names
    controls[0].focus()
    reached = [names[0]]
    for _ in range(4 * len(names) + 8):  # fields for typing and buttons lie between
        page.keyboard.press("Tab")
        name = page.evaluate(
            "() => document.activeElement.matches('.lab-kit-demo *') ? "
            "document.activeElement.ariaLabel || document.activeElement.labels?.[0]?.textContent "
            ": null"
        )
        if name in names and name != reached[-1]:
            reached.append(name)
    assert reached[: len(names)] == names


def test_keys_change_what_the_picture_says_and_nothing_jumps(page):
    picture = page.locator(".lab-kit-picture")
    assert picture.get_attribute("aria-live") == "polite"
    said, seen = {picture.evaluate(SPOKEN)}, []
    for control in page.locator(".lab-kit-demo").locator(CONTROLS).all():
        pictures = sweep(page, control, 2, patience=1000)
        seen += pictures
        said.add(picture.evaluate(SPOKEN))
        check_words(page)
        assert spread([p.top for p in pictures] or [0]) <= 1, f"{name_of(control)} moves the page"
    assert seen and len(said) > 1
    assert spread([p.height for p in seen]) <= 1, "layout creep"


def test_all_can_be_read_in_the_dark_and_in_the_light_theme(page):
    for theme in ("JupyterLab Dark", "JupyterLab Light"):
        page.evaluate(
            "theme => jupyterapp.commands.execute('apputils:change-theme', {theme})", theme
        )
        page.wait_for_function(
            "light => document.body.dataset.jpThemeLight === light",
            arg=str("Light" in theme).lower(),
        )
        page.wait_for_function("() => !document.querySelector('#jupyterlab-splash')")
        pale = [
            (words, round(contrast, 1))
            for words, contrast in contrasts(page, ".lab-kit-demo *")
            if contrast < 4.5
        ]
        assert not pale, theme


@pytest.mark.parametrize("size", [(1280, 720), (600, 450)], ids=["projector", "zoomed to 200 %"])
def test_nothing_is_cut_off_to_the_side(page, size):
    """A window of 1200 x 900, zoomed to 200 %, has 600 x 450 of CSS's pixels."""
    page.set_viewport_size({"width": size[0], "height": size[1]})
    with contextlib.suppress(TimeoutError):  # JupyterLab follows the window in its own time
        page.wait_for_function(f"() => ({CUT})().length === 0", timeout=3000)
    cut = page.evaluate(CUT)
    page.set_viewport_size({"width": 1200, "height": 900})
    assert cut == []
