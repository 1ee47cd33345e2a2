"""A callback that raises leaves no trace in a cell or on the page. The watch hears it, and the
browser tests fail by it.
"""

import nbformat
import pytest
from bench.browsing import cell_errors, shut_down_kernel
from watching import Watch
from whole_labs import check_widgets, open_notebook

pytestmark = pytest.mark.browser

RAISING = """import ipywidgets, sys
button, text = ipywidgets.Button(description="divide"), ipywidgets.Text()
slider = ipywidgets.IntSlider(description="level")
button.on_click(lambda _: 1 / 0)
slider.observe(lambda change: {}[change.new], names="value")
text.observe(lambda change: print("from a callback", file=sys.stderr), names="value")
print("from a cell", file=sys.stderr)
ipywidgets.VBox([button, slider, text])"""
UNDRAWN = """import ipywidgets, traitlets

class Nothing(ipywidgets.DOMWidget):
    _view_name = traitlets.Unicode("Nothing").tag(sync=True)
    _view_module = traitlets.Unicode("nowhere").tag(sync=True)

Nothing()"""


@pytest.fixture
def page(browser):
    page = browser.new_page()
    yield page
    page.close()


@pytest.fixture
def run(page, jupyterlab):
    """`run(code)` runs it in the one cell of a notebook and returns the watch that listens."""

    def opened(code: str) -> Watch:
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
        notebook.metadata.kernelspec = {
            "name": "python3",
            "display_name": "Python 3",
            "language": "python",
        }
        nbformat.write(notebook, jupyterlab["root"] / "watched.ipynb")
        watch = Watch(page)
        open_notebook(page, jupyterlab, "watched.ipynb")
        watch.listen_to_kernel()
        page.evaluate("() => jupyterapp.commands.execute('notebook:run-all-cells')")
        return watch

    yield opened
    shut_down_kernel(page)


def hear(page, watch, n: int) -> list[str]:
    """What was heard, once there are n messages of the kernel."""
    page.wait_for_function("n => heardFromKernel.length >= n", arg=n, timeout=30_000)
    return watch.troubles()


def test_a_callback_that_raises_is_heard(page, run):
    watch = run(RAISING)
    check_widgets(page)
    # what a cell itself writes to stderr is in its output
    assert not watch.troubles(), watch.troubles()
    page.get_by_role("button", name="divide").click()
    assert hear(page, watch, 1) == ["ZeroDivisionError: division by zero"]
    page.get_by_role("slider").press("ArrowRight")
    assert hear(page, watch, 2)[-1] == "KeyError: 1"
    page.locator(".widget-text input").fill("x")
    page.locator(".widget-text input").press("Enter")
    assert hear(page, watch, 3)[-1].strip() == "from a callback"
    assert cell_errors(page) == []  # which is why the watch is needed


def test_a_widget_that_is_not_drawn_is_noticed(page, run):
    run(UNDRAWN)
    with pytest.raises(AssertionError, match="show javascript error"):
        check_widgets(page, timeout=2_000)


def test_what_goes_wrong_in_the_page_is_heard(page):
    watch = Watch(page)
    page.goto(
        "data:text/html,<script>console.error('from a script'); console.log('well'); "
        "nothing.there</script>"
    )
    page.wait_for_function("() => document.readyState === 'complete'")
    assert [said.split(" (")[0] for said in watch.troubles()] == [
        "from a script",
        "nothing is not defined",
    ]
