"""What the tests of the demos do in a page: wait for a picture by what it says, press keys, drag
the mouse on a slider, and look at colors.
"""

CONTRASTS = """where => {  // [words, contrast with what lies behind their middle], WCAG 2.2
    const light = c => c.map(v => v / 255).map(v =>
        v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
        .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
    const numbers = color => (color.match(/[0-9.]+/g) || []).map(Number);
    const solid = color => { const c = numbers(color); return c.length > 2 &&
        (c[3] ?? 1) > 0.5 ? c.slice(0, 3) : null; };
    const behind = e => {
        const svg = e.ownerSVGElement, box = e.getBoundingClientRect();
        const x = (box.left + box.right) / 2, y = (box.top + box.bottom) / 2;
        if (svg) for (const shape of [...svg.querySelectorAll('rect, circle, text')].reverse()) {
            if (shape.tagName === 'text' ||
                !(shape.compareDocumentPosition(e) & Node.DOCUMENT_POSITION_FOLLOWING)) continue;
            const b = shape.getBoundingClientRect(), color = solid(getComputedStyle(shape).fill);
            if (color && b.left <= x && x <= b.right && b.top <= y && y <= b.bottom) return color;
        }
        for (let at = svg || e; at; at = at.parentElement) {
            const color = solid(getComputedStyle(at).backgroundColor);
            if (color) return color;
        }
        return [255, 255, 255];
    };
    const shown = [...document.querySelectorAll(where)].filter(e => e.checkVisibility()
        && [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim()) &&
            !e.closest('style, option, [disabled]'));
    return shown.map(e => {
        const style = getComputedStyle(e),
            ink = numbers(e.ownerSVGElement ? style.fill : style.color).slice(0, 3);
        const [low, high] = [light(ink), light(behind(e))].sort((a, b) => a - b);
        return [e.textContent.trim().slice(0, 40), (high + 0.05) / (low + 0.05)];
    });
}"""


def contrasts(page, where: str) -> list:
    """(words, contrast with what is behind them) of all that is shown and matches a selector."""
    return page.evaluate(CONTRASTS, where)


def picture_saying(page, description: str):
    """The picture with exactly this description, once it is there."""
    picture = page.locator(f'.jp-OutputArea-output svg[role=img][aria-label="{description}"]')
    picture.wait_for()
    return picture


def press(page, control: str, *keys: str) -> None:
    """Focus the handle of the slider whose accessible name is or begins with `control`, as Tab
    does, and press keys.
    """
    handle = page.get_by_role("slider", name=control)
    handle.focus()
    for key in keys:
        handle.press(key)


def drag(page, control: str, share: float) -> None:
    """Drag the slider's handle with the mouse to a share (0 to 1) of its track."""
    handle = page.get_by_role("slider", name=control)
    track = handle.locator("xpath=ancestor::*[contains(@class, 'noUi-base')]").bounding_box()
    handle.hover()
    page.mouse.down()
    page.mouse.move(track["x"] + share * track["width"], track["y"] + track["height"] / 2, steps=4)
    page.mouse.up()
