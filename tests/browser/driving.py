"""What the tests of the demos do in a page: wait for a picture by what it says, and press keys on a slider."""


def picture_saying(page, description: str):
    """The picture with exactly this description, once it is there."""
    picture = page.locator(f'.jp-OutputArea-output svg[role=img][aria-label="{description}"]')
    picture.wait_for()
    return picture


def press(page, control: str, *keys: str) -> None:
    """Focus the handle of the slider with this label, as Tab does, and press keys."""
    slider = page.locator(".widget-slider").filter(has=page.get_by_text(control, exact=True))
    handle = slider.get_by_role("slider")
    handle.focus()
    for key in keys:
        handle.press(key)
