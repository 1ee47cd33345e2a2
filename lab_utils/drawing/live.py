"""Live demos: `live` wires controls to a function that draws. No numbers are made here and no
pictures drawn.
"""

import html
import re
from collections.abc import Callable, Sequence
from typing import Any

import ipywidgets
from IPython.display import display

from lab_utils.drawing.style import as_image, picture

# ipywidgets ties no label to a slider's handle, tells a screen reader the place of a choice instead
# of the choice, and names neither groups of buttons nor the player's. JupyterLab's shortcuts take
# arrow keys and letters away from a list that has the focus ("d", "d" would delete the cell). A
# page runs no <script> that a widget brings, but it tells an image that it was loaded: that is when
# all this is mended, and from then on for whatever is drawn anew.
NAME_CONTROLS = """(function start(mark, tries) {
  const box = mark.closest('.lab-kit-demo');
  if (!box) { if (tries) setTimeout(start, 50, mark, tries - 1); return; }
  const all = (where, selector) => [...where.querySelectorAll(selector)];
  const text = (where) => where.querySelector('.widget-label')?.textContent;
  const set = (element, name, value) => {
    if (element.getAttribute(name) !== value) element.setAttribute(name, value);
  };
  const players = {
    'fa-play': 'play', 'fa-pause': 'pause', 'fa-stop': 'stop', 'fa-retweet': 'repeat'};
  // of ipywidgets 8; of 7, as in Colab
  const handleOf = (slider) => slider.querySelector('[role=slider], .ui-slider-handle');
  const nameSlider = (slider) => {
    const readout = slider.querySelector('.widget-readout'), handle = handleOf(slider);
    set(handle, 'role', 'slider');
    set(handle, 'aria-label', text(slider));
    set(handle, 'aria-valuetext', readout.textContent);
    set(handle, 'aria-disabled', String(slider.querySelector('.slider').hasAttribute('disabled')));
    if (slider.classList.contains('lab-kit-choice'))
      set(readout, 'contenteditable', 'false');  // typing there does nothing
    else {
      set(readout, 'role', 'textbox');
      set(readout, 'aria-label', text(slider) + ', typed');
    }
  };
  const nameGroup = (group, role) => {
    set(group, 'role', role);
    set(group, 'aria-label', text(group) || group.previousElementSibling?.textContent || '');
  };
  const name = () => {
    all(box, '.widget-slider').filter(handleOf).forEach(nameSlider);
    all(box, '.widget-radio').forEach(group => nameGroup(group, 'radiogroup'));
    all(box, '.widget-toggle-buttons').forEach(group => nameGroup(group, 'group'));
    all(box, '.widget-toggle-button').forEach(
      b => set(b, 'aria-pressed', String(b.classList.contains('mod-active'))));
    all(box, 'select, button, input, [role=slider]').forEach(
      e => set(e, 'data-lm-suppress-shortcuts', 'true'));
    for (const [icon, said] of Object.entries(players))
      all(box, '.widget-play .' + icon).forEach(i => set(i.parentElement, 'aria-label', said));
  };
  name();
  all(box, '.lab-kit-picture').forEach(picture => set(picture, 'aria-live', 'polite'));
  const names = ['aria-valuetext', 'class', 'contenteditable', 'disabled'];
  new MutationObserver(name).observe(box, {
    subtree: true, childList: true, characterData: true, attributes: true,
    attributeFilter: names});
})(this, 100)"""
STYLE = """<style>
.lab-kit-demo { --jp-widgets-font-size: 16px; --jp-widgets-inline-height: 32px; }
.lab-kit-demo .noUi-handle, .lab-kit-demo .ui-slider-handle {
  background: #0072B2; border: 2px solid white; }
.lab-kit-demo .widget-toggle-button.mod-active { box-shadow: inset 0 -5px #E69F00; }
.lab-kit-demo .slider[disabled] .noUi-handle { background: #909090; }
.lab-kit-demo .widget-vbox, .lab-kit-demo .widget-hbox { overflow: visible; }
.lab-kit-demo .noUi-handle:focus-visible, .lab-kit-demo button:focus-visible,
.lab-kit-demo select:focus-visible, .lab-kit-demo input:focus-visible {
  outline: 3px solid #E69F00; outline-offset: 2px; }
</style>"""
VIEW = "application/vnd.jupyter.widget-view+json"
FULL_WIDTH = "calc(100% - 4px)"  # a widget has margins of 2 pixels
PIXEL = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"


class Demo(ipywidgets.VBox):
    """A box of controls with names that a screen reader reads.

    Its output has two faces: the widget, and what it shows at first as a still picture, which
    GitHub, nbviewer and a notebook that was just opened show; `what` it is, in words, is a third.
    """

    def __init__(self, children: Sequence[Any], what: str):
        super().__init__()
        self.what = what
        self.names = ipywidgets.HTML(
            f'{STYLE}<img alt="" src="{PIXEL}" onload="{html.escape(NAME_CONTROLS, quote=True)}">'
        )
        self.names.layout.display = "none"
        self.add_class("lab-kit-demo")
        self.lay_out(*children)

    def lay_out(self, *children: Any) -> None:
        """Show these, from top to bottom."""
        self.children = (*children, self.names)

    def still(self) -> str:
        """The pictures and words of now, without controls, as HTML that needs no kernel."""
        return "".join(map(still_of, shown_in(self)))

    def _repr_mimebundle_(self, **options: Any) -> dict[str, Any]:
        bundle = {"text/plain": repr(self), "text/html": self.still()}
        if hasattr(ipywidgets.Widget, "_repr_mimebundle_"):
            return {**bundle, **super()._repr_mimebundle_(**options)}
        view = {"version_major": 2, "version_minor": 0, "model_id": self.model_id}
        return {**bundle, VIEW: view}

    if hasattr(ipywidgets.Widget, "_ipython_display_"):  # of ipywidgets 7, as in Colab

        def _ipython_display_(self, **options: Any) -> None:
            display(self._repr_mimebundle_(), raw=True)
            self._handle_displayed(**options)

    def __repr__(self) -> str:
        return f"{self.what}. It needs a kernel: run this cell in Jupyter or Colab to use it."


def shown_in(box: Any) -> list[str]:
    """What the HTML widgets in a box show, from top to bottom."""
    if isinstance(box, ipywidgets.HTML):
        return [] if box.layout.display == "none" else [box.value]
    return [value for child in getattr(box, "children", ()) for value in shown_in(child)]


def still_of(markup: str) -> str:
    """A drawing as an image, since bare SVG is left out of a notebook that was just opened; other
    HTML as it is, on a line of its own.
    """
    said = re.match(r'<svg[^>]*aria-label="([^"]*)"', markup)
    return as_image(picture(markup, html.unescape(said[1]))) if said else f"<div>{markup}</div>"


def live(draw: Callable[..., str], **controls: Any) -> Demo:
    """Show controls above a picture that follows them: `draw(name=value, ...)` is called with the
    controls' values.

    `draw` returns HTML, best a `Picture`. The box keeps `draw`, `controls` (by name) and `picture`
    for those who want to drive it.
    """
    shown = ipywidgets.HTML()
    shown.add_class("lab-kit-picture")

    def update(_change: Any = None) -> None:
        shown.value = str(draw(**{name: control.value for name, control in controls.items()}))

    for control in controls.values():
        control.observe(update, names="value")
        if isinstance(control, ipywidgets.SelectionSlider):
            control.add_class("lab-kit-choice")
    update()
    *others, last = [control.description for control in controls.values()]
    labels = f"{', '.join(others)} and {last}" if others else last
    box = Demo(
        [*controls.values(), shown],
        f"A live demo with a picture that follows its controls: {labels}",
    )
    box.draw, box.controls, box.picture = draw, controls, shown
    return box


def wide(control: Any) -> Any:
    """Give a control room for its label and a slider that can be hit from the keyboard."""
    control.style.description_width = "11em"
    control.layout.width, control.layout.max_width = "44em", FULL_WIDTH
    return control


def side_by_side(*children: Any) -> ipywidgets.HBox:
    """In a row while there is room, then below each other: nothing is cut off at 200 % zoom."""
    for child in children:
        child.layout.flex, child.layout.max_width = "0 0 auto", FULL_WIDTH
    return ipywidgets.HBox(children, layout=ipywidgets.Layout(flex_flow="row wrap"))
