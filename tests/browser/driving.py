"""What the tests of the demos do in a page: wait for a picture by what it says, press keys and drag
the mouse on a slider.
"""


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
