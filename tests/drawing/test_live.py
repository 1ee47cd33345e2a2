"""A demo's output has two faces: the widget where a kernel runs, a still picture elsewhere."""

import runpy

import ipywidgets
import pytest

from lab_utils.drawing import live as module
from lab_utils.drawing.live import VIEW, live
from lab_utils.drawing.quiz import BEFORE
from lab_utils.drawing.quiz_demo import Quiz, quiz_page
from lab_utils.drawing.style import as_image, svg, text


def draw(size):
    return svg(100, 20, f"size <{size}>", text(0, 10, size))


def sized(make=live):
    return make(draw, size=ipywidgets.IntSlider(3, 1, 5, description="size"))


def test_the_output_is_a_widget_and_the_picture_that_it_shows():
    box = sized()
    bundle = box._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "text/html", VIEW}
    assert bundle[VIEW]["model_id"] == box.model_id
    assert bundle["text/html"] == as_image(draw(3)) and 'alt="size &lt;3&gt;"' in as_image(draw(3))
    box.controls["size"].value = 5
    assert box.still() == as_image(draw(5)), "as it stands now"


def test_the_still_shows_words_as_they_are_and_no_marks_of_style():
    box = module.Demo([ipywidgets.HBox([ipywidgets.HTML("<p>said</p>")])], "A box")
    assert box.still() == "<div><p>said</p></div>"


def test_a_quiz_opens_its_answers_where_no_kernel_runs():
    assert Quiz(BEFORE)._repr_mimebundle_()["text/html"] == quiz_page(BEFORE)


def test_colabs_older_ipywidgets_shows_both_faces_too(monkeypatch):
    """ipywidgets 7 displays by `_ipython_display_` and has no `_repr_mimebundle_`."""
    shown = []
    widget = ipywidgets.Widget
    monkeypatch.setattr(widget, "_ipython_display_", lambda self: None, raising=False)
    monkeypatch.setattr(widget, "_handle_displayed", lambda self: shown.append(self), raising=False)
    monkeypatch.delattr(widget, "_repr_mimebundle_")
    monkeypatch.setattr("IPython.display.display", lambda data, raw: shown.append((data, raw)))
    box = sized(runpy.run_path(module.__file__)["live"])
    box._ipython_display_()
    (data, raw), displayed = shown
    assert raw and displayed is box and data["text/html"] == as_image(draw(3))
    assert data[VIEW] == {"version_major": 2, "version_minor": 0, "model_id": box.model_id}


@pytest.mark.parametrize("markup", ["<b>no picture</b>", "plain words"])
def test_what_is_no_drawing_has_a_line_of_its_own(markup):
    assert module.still_of(markup) == f"<div>{markup}</div>"
