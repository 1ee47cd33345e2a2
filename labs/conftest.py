"""`pytest --nbval labs` compares a cell with its stored outputs as the browser tests do."""

from comparing import differences
from nbval.plugin import IPyNbCell


def pytest_itemcollected(item):
    """Hands nbval the kit's own comparing, and what a display became after it was shown first."""
    if isinstance(item, IPyNbCell):
        item.compare_outputs = lambda outputs, stored: compare(item, outputs, stored)
        if "get_kernel_message" not in vars(item.parent):
            item.parent.get_kernel_message = with_updates(item.parent.get_kernel_message)


def compare(item: IPyNbCell, outputs: list, stored: list) -> bool:
    """Whether the outputs are the stored ones; if not, nbval prints the traceback."""
    item.cell.outputs = stored  # nbval joined its streams, and left the parts behind the whole
    item.comparison_traceback = differences(item.cell, last_states(outputs))
    return not item.comparison_traceback


def with_updates(get_message):
    """nbval's way to a kernel's message, in which an update of a display is a display too."""

    def get(*args, **named):
        message = get_message(*args, **named)
        if message["msg_type"] in ("display_data", "update_display_data"):
            message["msg_type"] = "display_data"
            content = message["content"]
            content["metadata"]["display_id"] = content.get("transient", {}).get("display_id")
        return message

    return get


def last_states(outputs: list) -> list:
    """The outputs, with of each updated display its last state at the place of its first."""
    states = {}
    for number, output in enumerate(outputs):
        states[output.get("metadata", {}).get("display_id") or number] = output
    return list(states.values())
