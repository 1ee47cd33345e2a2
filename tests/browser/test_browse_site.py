"""The site of the real labs, opened from the disk: no request leaves, no link is broken, no picture
is missing.
"""

from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from driving import contrasts

from lab_utils.course.run import find_labs
from lab_utils.course.site import make_site
from lab_utils.course.stage import DEMOS
from lab_utils.memory.demos import draw_stepper, replayed
from lab_utils.pavlos.demos import VOTES
from lab_utils.quantization.demos import draw_outlier

pytestmark = pytest.mark.browser

LOOK = """() => ({
    missing: [...document.images].filter(image => !image.complete || !image.naturalWidth)
        .map(image => image.alt),
    unnamed: [...document.querySelectorAll('img:not([alt]), svg:not([aria-label])')].length,
    pictures: document.querySelectorAll('img, svg[role=img]').length,
    links: [...document.querySelectorAll('a[href]')].map(link => link.href),
    ids: [...document.querySelectorAll('[id]')].map(element => element.id),
    flatMath: [...document.querySelectorAll('math')].filter(math => math.getBoundingClientRect()
        .height < 5).length,
    wide: document.documentElement.scrollWidth - document.documentElement.clientWidth,
})"""
UNFOLD = "() => document.querySelectorAll('.answer').forEach(answer => { answer.open = true; })"
WIDE = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"
# contrasts are measured with each theme below; without `preload` no style sheet is asked for again
AXE = {
    "resultTypes": ["violations"],
    "rules": {"color-contrast": {"enabled": False}},
    "preload": False,
}


def violations(page) -> list[str]:
    """The accessibility rules of axe-core that the page breaks, with where."""
    found = Axe().run(page, options=AXE).response["violations"]
    return [f"{rule['id']}: {node['html'][:200]}" for rule in found for node in rule["nodes"]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    for name, text in make_site(find_labs()).items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def seen(folder, browser):
    """(what the browser saw on each page, addresses it asked for, what it complained about)."""
    page = browser.new_page(viewport={"width": 1280, "height": 720})
    requests, complaints, found = [], [], {}
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    for path in sorted(folder.glob("*.html")):
        page.set_viewport_size({"width": 1280, "height": 720})
        page.goto(path.as_uri(), wait_until="load")
        page.wait_for_function("() => !document.querySelector('.controls[hidden]')")
        page.evaluate(UNFOLD)
        found[path.name] = {**page.evaluate(LOOK), "violations": violations(page), "pale": []}
        page.set_viewport_size({"width": 390, "height": 844})
        found[path.name]["wideOnTelephone"] = page.evaluate(WIDE)
        for theme in ("light", "dark"):
            page.emulate_media(color_scheme=theme)
            # code has the same colors everywhere, and thousands of words: once is enough
            where = "body *" if path.name.startswith("00") else "body :not(.highlight *)"
            pale = [words for words, contrast in contrasts(page, where) if contrast < 4.5]
            found[path.name]["pale"] += pale
    page.close()
    return found, requests, complaints


def test_no_request_leaves_and_nothing_complains(seen, folder):
    found, requests, complaints = seen
    assert len(found) == len(find_labs()) + 1
    assert {url.split(":")[0] for url in requests} <= {"file", "data"}
    assert all(
        Path(unquote(urlsplit(url).path)).parent == folder
        for url in requests
        if url.startswith("file:")
    )
    assert complaints == []


def test_no_picture_is_missing_or_without_words(seen):
    for name, page in seen[0].items():
        assert page["missing"] == [] and page["unnamed"] == 0, name
        assert page["pictures"] >= 3 or name == "index.html"


def test_no_link_is_broken(seen, folder):
    found, _, _ = seen
    for name, page in found.items():
        for link in page["links"]:
            parts = urlsplit(link)
            if parts.scheme == "file":
                target = Path(unquote(parts.path))
                assert target.parent == folder and target.exists(), (name, link)
                ids = {*found[target.name]["ids"], ""}
                demo = parts.fragment.split("?")[0]  # its settings follow
                assert {parts.fragment, unquote(parts.fragment), demo} & ids, (name, link)
            else:
                assert parts.scheme == "https" and parts.netloc and "OWNER" not in link, (
                    name,
                    link,
                )


def test_equations_are_drawn_and_pages_fit_projector_and_telephone(seen):
    for name, page in seen[0].items():
        assert page["flatMath"] == 0 and page["wide"] <= 0 and page["wideOnTelephone"] <= 0, name


def test_pages_can_be_read_by_all(seen):
    """Names of controls and links, order of headings, what scrolls, contrast in both themes."""
    for name, page in seen[0].items():
        assert page["violations"] == [] and page["pale"] == [], name


def test_a_page_is_light(folder):
    sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
    assert max(sizes.values()) < 3e6, sizes


def test_a_reader_goes_from_lab_to_lab_by_keyboard(folder, browser):
    page = browser.new_page(viewport={"width": 390, "height": 844})
    page.goto((folder / "index.html").as_uri())
    first, second = (lab.stem for lab in find_labs()[:2])
    page.locator("ul.labs a").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/{first}.html")
    page.get_by_text("On this page").focus()
    page.keyboard.press("Enter")
    assert page.locator('nav[aria-label="On this page"] a').count() > 5
    page.locator(".ends a").last.focus()
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/{second}.html")
    assert second[:2] in page.locator("nav [aria-current=page]").text_content()
    page.close()


def test_the_search_finds_a_section_of_another_lab(folder, browser):
    page = browser.new_page()
    page.goto((folder / "index.html").as_uri())
    page.get_by_role("searchbox", name="Search all labs").focus()
    page.keyboard.type("4.127 bits")
    link = page.locator(".found a", has_text="4.127 bits per parameter").first
    link.focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/02_double_quantization.html#*")
    page.close()


# ------------------------------------------------------------------------------------- live demos
LIVE = [name for name, demo in DEMOS.items() if not demo.needs]
LABS_WITH_DEMOS = [lab.stem for lab in find_labs() if lab.stem[:2] not in ("06", "09")]
SPOKEN = """picture => picture.querySelector('svg[role=img]')?.getAttribute('aria-label')
    ?? picture.textContent"""


@pytest.fixture(scope="module")
def places(folder):
    """{demo: its page}."""
    pages = {path: path.read_text(encoding="utf-8") for path in folder.glob("*.html")}
    return {
        name: path
        for path, text in pages.items()
        for name in LIVE
        if f'class="demo live" id="{name}"' in text
    }


def opened(browser, path, fragment="", width=390):
    """A page, once its demos have their controls, with what it complained about."""
    page = browser.new_page(viewport={"width": width, "height": 844})
    page.complaints = []
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.on("console", lambda message: page.complaints.append(message.text))
    page.goto(path.as_uri() + fragment)
    page.wait_for_function("() => !document.querySelector('.controls[hidden]')")
    page.evaluate(UNFOLD)
    return page


DOWN_AND_UP = ("ArrowDown", "ArrowUp", "ArrowUp", "ArrowDown")


def press_all(page, demo) -> set[str]:
    """The controls of a demo that change nothing by keyboard, whichever preset is on."""
    picture = demo.locator(".picture")
    fields = "fields => fields.map(field => [field.id, field.type])"
    still = dict(demo.locator(".control :is(input, select)").evaluate_all(fields))
    for preset in demo.locator(".presets a").all():
        preset.press("Enter")
        for name, kind in list(still.items()):
            page.locator(f"#{name}").focus()
            for key in ("Space", "Space") if kind == "checkbox" else DOWN_AND_UP:
                before = picture.evaluate(SPOKEN)
                page.keyboard.press(key)
                if picture.evaluate(SPOKEN) != before:
                    still.pop(name, None)
    return set(still)


@pytest.mark.parametrize("lab", LABS_WITH_DEMOS)
def test_every_control_works_by_keyboard_without_a_kernel(folder, browser, lab):
    """On a telephone and on a projector."""
    page = opened(browser, folder / f"{lab}.html")
    for width in (390, 1280):
        page.set_viewport_size({"width": width, "height": 844})
        demos = page.locator(".demo.live:not(#votes)").all()
        assert demos
        for demo in demos:
            assert press_all(page, demo) == set()
            picture = demo.locator(".picture")
            box = picture.bounding_box()
            assert box["x"] >= 0 and box["x"] + box["width"] <= width
            assert picture.get_attribute("aria-live") == "polite"
    assert page.complaints == []
    page.close()


def test_every_demo_without_a_model_is_on_a_page(places):
    assert set(places) == set(LIVE)
    assert {path.stem for path in places.values()} == set(LABS_WITH_DEMOS)


def test_a_link_opens_a_demo_with_its_settings_and_presets_set_them(places, browser):
    page = opened(browser, places["outlier"], "#outlier?outlier=100")
    picture = page.locator("#outlier .picture")
    assert picture.evaluate(SPOKEN) == draw_outlier(100.0, 32).description
    page.get_by_role("link", name="a huge one, small blocks").focus()
    page.keyboard.press("Enter")
    assert picture.evaluate(SPOKEN) == draw_outlier(300.0, 8).description
    page.wait_for_url("**#outlier?outlier=300&block_size=8")
    size = page.locator("#outlier [name=block_size]")
    size.press("ArrowRight")
    assert size.get_attribute("aria-valuetext") == "16"
    assert picture.evaluate(SPOKEN) == draw_outlier(300.0, 16).description
    page.wait_for_url("**#outlier?outlier=300&block_size=16")
    page.close()


def test_a_player_steps_to_the_end_of_its_course_and_greys_out_what_does_nothing(places, browser):
    page = opened(browser, places["checkpointing"])
    demo = page.locator("#checkpointing")

    def spoken():
        return demo.locator(".picture").evaluate(SPOKEN)

    demo.locator("[name=step]").press("Home")
    demo.get_by_role("button", name="next ▶").press("Enter")
    assert spoken() == draw_stepper(1).description
    demo.locator("[name=step]").press("End")
    assert spoken() == draw_stepper(10**6).description
    demo.get_by_role("button", name="◀ back").press("Enter")
    assert spoken() == draw_stepper(len(replayed("sqrt(n)", 16, 4, 8, 0)[0].events) - 1).description
    assert demo.locator("[name=k]").is_disabled()
    demo.get_by_label("plan", exact=True).select_option("every k")
    assert demo.locator("[name=k]").is_enabled() and demo.locator("[name=limit]").is_disabled()
    page.close()


def test_a_player_plays(places, browser):
    page = opened(browser, places["paging"])
    button = page.locator("#paging [data-play]")
    button.press("Enter")
    assert button.get_attribute("aria-pressed") == "true"
    page.wait_for_function("() => document.querySelector('#paging [name=step]').value > 1")
    button.press("Enter")
    assert button.inner_text() == "play"
    page.close()


@pytest.mark.parametrize("width", [390, 1280])
def test_two_raters_vote_by_keyboard(folder, browser, width):
    page = opened(browser, folder / "05_pavlos_dataset.html", "#votes", width)
    demo = page.locator("#votes")
    pair, voice, truth = demo.locator(".picture").all()

    def choose(group, option):
        """As a reader does: to the group's chosen button, and by arrows to another one."""
        buttons = demo.get_by_role("group", name=group).get_by_role("radio")
        names = buttons.evaluate_all("all => all.map(one => one.value)")
        now = buttons.evaluate_all("all => all.findIndex(one => one.checked)")
        buttons.nth(now).focus()
        by = names.index(option) - now
        for _ in range(abs(by)):
            page.keyboard.press("ArrowDown" if by > 0 else "ArrowUp")

    def chosen(group):
        buttons = demo.get_by_role("group", name=group).get_by_role("radio")
        return buttons.evaluate_all("all => all.find(one => one.checked).value")

    VOICE, TRUTH = VOTES["voice"], VOTES["truth"]
    for vote in ("yes", "no", "yes"):
        choose(VOICE, vote)
        demo.get_by_role("button", name="next ▶").press("Enter")
    assert "pair 4 of 12" in pair.inner_text() and chosen(VOICE) == "not yet"
    assert "no pair judged by both" in voice.evaluate(SPOKEN)
    choose("rater", "B")
    for vote in ("yes", "no", "no"):
        demo.get_by_role("button", name="◀ back").press("Enter")
        assert chosen(VOICE) == "not yet", "A's votes are not B's"
        choose(VOICE, vote)
    choose(TRUTH, "no")
    # A said yes, no, yes; B no, no, yes
    assert "voice: agree on 67% of 3, kappa 0.40" in voice.evaluate(SPOKEN)
    assert "no pair judged by both" in truth.evaluate(SPOKEN)
    choose(VOICE, "not yet")
    assert "agree on 100% of 2" in voice.evaluate(SPOKEN), "a vote can be taken back"
    demo.get_by_role("button", name="◀ back").press("Enter")
    assert "pair 12 of 12" in pair.inner_text()
    box = demo.bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= width
    assert page.complaints == []
    page.close()
