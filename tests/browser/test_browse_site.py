"""The site of the real labs, opened from the disk: no request leaves, no link is broken, no picture
is missing.
"""

from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from lab_utils.course.run import find_labs
from lab_utils.course.site import make_site

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
        page.goto(path.as_uri(), wait_until="load")
        found[path.name] = page.evaluate(LOOK)
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
                assert {parts.fragment, unquote(parts.fragment)} & ids, (name, link)
            else:
                assert parts.scheme == "https" and parts.netloc and "OWNER" not in link, (
                    name,
                    link,
                )


def test_equations_are_drawn_and_pages_fit_the_projector(seen):
    for name, page in seen[0].items():
        assert page["flatMath"] == 0 and page["wide"] <= 0, name


def test_a_reader_goes_from_lab_to_lab_by_keyboard(folder, browser):
    page = browser.new_page()
    page.goto((folder / "index.html").as_uri())
    first = find_labs()[0].stem
    page.locator("ul.labs a").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/{first}.html")
    assert page.locator("nav [aria-current=page]").inner_text() == first[:2]
    page.close()
