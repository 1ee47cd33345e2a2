"""Milliseconds from a key on a control to the new picture, for every demo, in JupyterLab in a
headless Chromium.

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
PATIENCE = 3000  # milliseconds to wait for a picture
CONTROLS = ":is([role=slider]:not([aria-disabled=true]), select, input:not([type=hidden])):visible"
WATCH = """() => {
    const picture = document.querySelector('.lab-kit-picture'), watch = {pressed: null, seen: []};
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
    : element.matches('input') ? [0, -1, 1]
    : ['now', 'min', 'max'].map(name => Number(element.getAttribute('aria-value' + name)))"""
DOWN_AND_UP = {
    "slider": ("ArrowLeft", "ArrowRight"),
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


def measure(args: argparse.Namespace) -> Outcome:
    """Open one demo after the other and press keys on each of its controls. LabKitError for a demo
    that is not known.
    """
    from tqdm.auto import tqdm

    from bench import browsing
    from lab_utils.course.stage import DEMOS, find_demo

    names = args.demos or list(DEMOS)
    without = [name for name in names if find_demo(name).needs]
    timed = []
    with tempfile.TemporaryDirectory() as home, tempfile.TemporaryDirectory() as root:
        with (
            browsing.private_jupyterlab(Path(home), Path(root)) as server,
            browsing.headless_chromium() as chromium,
        ):
            page = chromium.new_page(viewport={"width": 1280, "height": 1000})
            browsing.open_code(page, server, "")
            for name in tqdm([name for name in names if name not in without], unit="demo"):
                browsing.show_demo(page, name)
                timed.append(Timed(name, press_keys(page, args.presses)))
    return outcome_of(timed, without)


# -------------------------------------------------------------------------------------- in the page
def press_keys(page: Any, presses: int) -> dict[str, list[Seen]]:
    """Press keys on each control of the demo in the page, from its value up and back again; one
    picture is awaited at a time.
    """
    page.evaluate(WATCH)
    controls = page.locator(".lab-kit-demo").locator(CONTROLS).all()
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


def outcome_of(timed: Sequence[Timed], without: Sequence[str]) -> Outcome:
    """The table, the numbers and the problems; `without` are demos that were left out."""
    lines = [f"{'milliseconds from key to picture':<34}{'p50':>6}{'p95':>6}{'most':>6}{'keys':>6}"]
    measures, problems = [], []
    for demo in timed:
        pictures = [picture for seen in demo.pictures.values() for picture in seen]
        if not pictures:
            problems.append(f"{demo.name}: no key changed its picture")
            continue
        times = [picture.milliseconds for picture in pictures]
        half, most = percentile(times, 0.5), percentile(times, 0.95)
        lines.append(
            f"{demo.name:<34}{half:>6.0f}{most:>6.0f}{max(times):>6.0f}{len(times):>6}{idle(demo)}"
        )
        measures += [
            Measure(f"{demo.name}, p50", half, "ms", "lower"),
            Measure(f"{demo.name}, p95", most, "ms", "lower"),
        ]
        problems += [f"{demo.name}: p95 is {most:.0f} ms, above {LIMIT}"] * (most > LIMIT)
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
