"""Presenter mode in Chromium: the page is offline, fits a projector, and presets work by mouse and
keyboard.
"""

import contextlib
import os
import signal
import subprocess
import sys

import pytest
from bench.browsing import free_port, private_home, wait_until_up

from lab_utils.course.stage import STYLE
from lab_utils.files import ROOT
from lab_utils.finetuning.pictures import answers_html
from lab_utils.lora.pictures import voice_html
from lab_utils.memory.demos import draw_stepper

pytestmark = pytest.mark.browser


def stop(process: subprocess.Popen) -> None:
    """Ctrl-C, and the end after half a minute: on a busy machine Voila's kernel may not have heard
    of it by then.
    """
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGINT)
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture
def present(browser, tmp_path):
    """`present(name)` starts the command and returns its page; errors and requests to elsewhere
    fail the test.
    """
    page = browser.new_page(viewport={"width": 1280, "height": 720})
    page.set_default_timeout(90_000)
    started, problems, requests = [], [], []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on(
        "console",
        lambda message: problems.append(message.text) if message.type == "error" else None,
    )
    page.on("request", lambda request: requests.append(request.url))

    def opened(name):
        address, log = f"http://127.0.0.1:{free_port()}", tmp_path / "server.log"
        command = [
            sys.executable,
            "-m",
            "lab_utils",
            "demo",
            name,
            "--no-browser",
            f"--port={address.rsplit(':')[-1]}",
        ]
        with log.open("w") as file:
            started.append(
                subprocess.Popen(
                    command,
                    cwd=ROOT,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    env=private_home(tmp_path / "home"),
                )
            )
        wait_until_up(started[0], f"{address}/voila/static/voila.js", log)
        page.goto(address)
        page.locator(".lab-kit-stage svg[role=img]").wait_for()
        return page

    yield opened
    page.close()
    for process in started:
        stop(process)
    assert not problems, problems
    assert requests and all(
        url.startswith(("http://127.0.0.1:", "data:", "blob:")) for url in requests
    )


def saying(page, drawn):
    """The picture with the description of what the pure function draws, once it is there."""
    picture = page.locator(f'.lab-kit-stage svg[role=img][aria-label="{drawn.description}"]')
    picture.wait_for()
    return picture


def test_presets_by_mouse_and_keyboard(present):
    """The course's end moves from 56 to 32 events: the browser must not move the step there."""
    page = present("checkpointing")
    assert page.get_by_role("heading", name="Forget now, compute again later").is_visible()
    saying(page, draw_stepper(0))
    page.get_by_role("button", name="in the backward pass", exact=True).click()
    box = saying(page, draw_stepper(34)).bounding_box()
    assert box["height"] > 300 and box["width"] > 1000 and box["y"] + box["height"] <= 720, (
        "it fills the window and ends in it"
    )
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")  # two buttons back
    drawn = draw_stepper(16, plan="none")
    saying(page, drawn)
    page.wait_for_timeout(700)  # for an answer of the browser that would move it
    assert saying(page, drawn).is_visible()
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")
    saying(page, draw_stepper(0))


def test_a_calculator_and_its_result_are_in_sight_in_half_a_window(present):
    page = present("training")
    page.set_viewport_size({"width": 640, "height": 690})
    fits = """() => { const box = document.querySelector('.lab-kit-stage svg[role=img]')
        .getBoundingClientRect();
        return box.bottom <= 690 && box.right <= 640 && box.height > 200; }"""
    page.wait_for_function(fits)
    shown = page.locator(".lab-kit-demo :is(select, [role=slider], input[type=checkbox]):visible")
    assert shown.count() == 4
    page.get_by_role("button", name="more assumptions").press("Enter")
    page.get_by_label("optimizer").wait_for()


def test_answers_can_be_read_from_the_back_row(browser):
    """32 pixels of 1280, and the same share of a larger screen."""
    page = browser.new_page()
    for said in (answers_html("Why?", "No.", "Yes."), voice_html("Why?", "terse", "Yes.")):
        page.set_content(f'{STYLE}<div class="lab-kit-stage">{said}</div>')
        for width, least in ((640, 32), (1280, 32), (1920, 48)):
            page.set_viewport_size({"width": width, "height": width * 9 // 16})
            size = "words => parseFloat(getComputedStyle(words).fontSize)"
            assert page.get_by_text("Yes.").evaluate(size) >= least
    page.close()
