"""Milliseconds from a key on a control to the new picture, for every demo, in JupyterLab in a
headless Chromium; with --site on the site's pages, which have no kernel to ask.

The least is what the work itself takes; what is above it was mostly waited for a free core.
The page's own clock is read when the key arrives and in the first frame that shows the changed
picture, so that the way to the kernel and back, the drawing and the browser's layout are all in it.
Whether picture or page jumped is looked at, too.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bench import Measure, Outcome

# milliseconds: what feels like at once (Miller 1968; Nielsen, Usability Engineering, 1993, chapter
# 5)
LIMIT = 100
SITE_LIMIT = 20  # about one frame of a screen
PATIENCE = 3000  # milliseconds to wait for a picture
CONTROLS = (
    ":is([role=slider]:not([aria-disabled=true]), :is(select, input:not([type=hidden])):enabled)"
    ":visible"
)
IN_LAB = (".lab-kit-demo", ".lab-kit-picture")  # where a demo and its picture are
WATCH = """selector => {
    const picture = document.querySelector(selector), watch = {pressed: null, seen: []};
    window.labKitWatch = watch;
    addEventListener('keydown', () => { watch.pressed = performance.now(); }, true);
    new MutationObserver(() => {
        if (watch.pressed === null) return;
        const pressed = watch.pressed;
        watch.pressed = null;
        requestAnimationFrame(() => {
            const box = picture.getBoundingClientRect();
            watch.seen.push([performance.now() - pressed, box.top, box.height]);
        });
    }).observe(picture, {childList: true, subtree: true});
}"""
PLACE = """element => element.matches('select') ? [element.selectedIndex, 0,
    element.options.length - 1]
    : element.type === 'range' ? ['value', 'min', 'max'].map(name => Number(element[name]))
    : element.matches('input') ? [0, -1, 1]
    : ['now', 'min', 'max'].map(name => Number(element.getAttribute('aria-value' + name)))"""
DOWN_AND_UP = {
    "slider": ("ArrowLeft", "ArrowRight"),
    "range": ("ArrowLeft", "ArrowRight"),
    "select": ("ArrowUp", "ArrowDown"),
    "number": ("ArrowDown", "ArrowUp"),
    "checkbox": ("Space", "Space"),
}


class Seen(NamedTuple):
    """One new picture: milliseconds after the key; top and height in the window, in pixels."""

    milliseconds: float
    top: float
    height: float


class Timed(NamedTuple):
    """What a demo did: its pictures for each control, by name; a control without any changed
    nothing (as others stood).
    """

    name: str
    pictures: dict[str, list[Seen]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which demos, and how often."""
    parser.add_argument(
        "--presses",
        type=int,
        default=40,
        help="keys for each demo, shared by its controls (default 40)",
    )
    parser.add_argument(
        "--demos",
        nargs="+",
        metavar="NAME",
        help="only these (default: all that need no trained model)",
    )
    parser.add_argument(
        "--site", action="store_true", help="on the site's pages, opened from the disk"
    )


def measure(args: argparse.Namespace) -> Outcome:
    """Open one demo after the other and press keys on each of its controls. LabKitError for a demo
    that is not known.
    """
    from lab_utils.course.stage import DEMOS, find_demo

    names = args.demos or list(DEMOS)
    without = [name for name in names if find_demo(name).needs]
    shown = [name for name in names if name not in without]
    timed = (on_site if args.site else in_jupyterlab)(shown, args.presses)
    return outcome_of(timed, without, SITE_LIMIT if args.site else LIMIT)


def in_jupyterlab(names: Sequence[str], presses: int) -> list[Timed]:
    """The demos one after the other in one notebook."""
    from tqdm.auto import tqdm

    from bench import browsing

    timed = []
    with tempfile.TemporaryDirectory() as home, tempfile.TemporaryDirectory() as root:
        with (
            browsing.private_jupyterlab(Path(home), Path(root)) as server,
            browsing.headless_chromium() as chromium,
        ):
            page = chromium.new_page(viewport={"width": 1280, "height": 1000})
            browsing.open_code(page, server, "")
            for name in tqdm(names, unit="demo"):
                browsing.show_demo(page, name)
                timed.append(Timed(name, press_keys(page, presses)))
    return timed


def on_site(names: Sequence[str], presses: int) -> list[Timed]:
    """The demos on the pages of the site, which is made for it."""
    from tqdm.auto import tqdm

    from bench import browsing
    from lab_utils.course.run import find_labs
    from lab_utils.course.site import make_site

    files, timed = make_site(find_labs()), []
    with tempfile.TemporaryDirectory() as folder, browsing.headless_chromium() as chromium:
        for file, text in files.items():
            (Path(folder) / file).write_text(text, encoding="utf-8")
        page = chromium.new_page(viewport={"width": 1280, "height": 1000})
        for name in tqdm(names, unit="demo"):
            file = next(file for file, text in files.items() if f'live" id="{name}"' in text)
            page.goto(f"{(Path(folder) / file).as_uri()}#{name}")
            page.reload()  # a change of the fragment alone loads nothing
            page.wait_for_function("() => !document.querySelector('.controls[hidden]')")
            where = (f"#{name}", f"#{name} .picture")
            timed.append(Timed(name, press_keys(page, presses, where)))
    return timed


# -------------------------------------------------------------------------------------- in the page
def press_keys(page: Any, presses: int, where: tuple[str, str] = IN_LAB) -> dict[str, list[Seen]]:
    """Press keys on each control of the demo in the page, from its value up and back again; one
    picture is awaited at a time. `where` are selectors of the demo and of its picture.
    """
    page.evaluate(WATCH, where[1])
    controls = page.locator(where[0]).locator(CONTROLS).all()
    return {
        name_of(control): sweep(page, control, math.ceil(presses / len(controls)))
        for control in controls
    }


def name_of(control: Any) -> str:
    """A control's label."""
    return control.evaluate(
        "element => element.ariaLabel || element.labels?.[0]?.textContent || ''"
    )


def sweep(page: Any, control: Any, presses: int, patience: int = PATIENCE) -> list[Seen]:
    """What is seen after each key; nothing more is tried once a key brought no picture."""
    kind = control.evaluate(
        "element => element.getAttribute('role') || (element.matches('select') ? 'select' : "
        "element.type)"
    )
    up, seen = True, []
    control.focus()
    for _ in range(presses):
        value, low, high = control.evaluate(PLACE)
        up = value < high if up else value <= low
        picture = press(page, control, DOWN_AND_UP[kind][up], patience)
        if picture is None:
            break
        seen.append(picture)
    return seen


def press(page: Any, control: Any, key: str, patience: int) -> Seen | None:
    """Press a key and wait for the new picture; None if there is none."""
    from playwright.sync_api import TimeoutError

    page.evaluate("() => { labKitWatch.seen = []; }")
    control.press(key)
    try:
        page.wait_for_function("() => labKitWatch.seen.length", timeout=patience)
    except TimeoutError:
        return None
    return Seen(*page.evaluate("() => labKitWatch.seen[0]"))


# ------------------------------------------------------------------------------------ what it means
def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of all values does not exceed (nearest rank)."""
    return sorted(values)[max(math.ceil(share * len(values)), 1) - 1]


def spread(values: Sequence[float]) -> float:
    """Largest less smallest."""
    return max(values) - min(values)


def outcome_of(timed: Sequence[Timed], without: Sequence[str], limit: float = LIMIT) -> Outcome:
    """The table, the numbers and the problems; `without` are demos that were left out."""
    heads = "".join(f"{head:>6}" for head in ("least", "p50", "p95", "most", "keys"))
    lines = [f"{'milliseconds from key to picture':<34}{heads}"]
    measures, problems = [], []
    for demo in timed:
        pictures = [picture for seen in demo.pictures.values() for picture in seen]
        if not pictures:
            problems.append(f"{demo.name}: no key changed its picture")
            continue
        times = [picture.milliseconds for picture in pictures]
        half, most = percentile(times, 0.5), percentile(times, 0.95)
        lines.append(
            f"{demo.name:<34}{min(times):>6.0f}{half:>6.0f}{most:>6.0f}{max(times):>6.0f}{len(times):>6}{idle(demo)}"
        )
        measures += [
            Measure(f"{demo.name}, least", min(times), "ms", "lower"),
            Measure(f"{demo.name}, p50", half, "ms", "lower"),
            Measure(f"{demo.name}, p95", most, "ms", "lower"),
        ]
        problems += [f"{demo.name}: p95 is {most:.0f} ms, above {limit}"] * (most > limit)
        problems += jumps(demo, pictures)
    lines += [
        f"{name:<34}left out: it answers when the model that a lab trains does" for name in without
    ]
    return Outcome(measures, "\n".join(lines), problems)


def idle(demo: Timed) -> str:
    """The controls that changed nothing, in words."""
    names = [name for name, seen in demo.pictures.items() if not seen]
    return f"  without effect here: {', '.join(names)}" if names else ""


def jumps(demo: Timed, pictures: Sequence[Seen]) -> list[str]:
    """A problem where a picture changed its height, or its place while one control was used."""
    moved = max(
        (spread([picture.top for picture in seen]) for seen in demo.pictures.values() if seen),
        default=0,
    )
    grown = spread([picture.height for picture in pictures])
    return [f"{demo.name}: the page jumped by {moved:.0f} pixels"] * (moved > 1) + [
        f"{demo.name}: the picture's height changed by {grown:.0f} pixels"
    ] * (grown > 1)
