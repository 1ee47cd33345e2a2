"""Hears what goes wrong where no cell shows it: in a widget's callback, and in the page.

A callback runs for a message of its widget, not for a cell. What it raises is on the kernel's
channel and in no output: the demo stands still, and nothing on the page says why.
"""

from bench.browsing import cell_errors

BADGE = "https://colab.research.google.com/assets/colab-badge.svg"
# a picture from elsewhere, at the top of a lab
HARMLESS = {f"Failed to load resource: net::ERR_NAME_NOT_RESOLVED ({BADGE})"}

# JupyterLab asks each new kernel for its widgets, by a channel that a kernel without ipywidgets
# does not have: harmless, too
LISTEN = """() => {
    const asked = /^No such comm(: [0-9a-f-]{36}| target registered: jupyter.widget.control)\\n$/;
    window.heardFromKernel = [];
    jupyterapp.shell.currentWidget.sessionContext.iopubMessage.connect((_, message) => {
        const kind = message.header.msg_type, content = message.content,
            cause = message.parent_header?.msg_type;
        if (kind === 'error') heardFromKernel.push(content.ename + ': ' + content.evalue);
        if (kind === 'stream' && content.name === 'stderr' && cause !== 'execute_request' &&
            !asked.test(content.text))
            heardFromKernel.push(content.text);
    });
}"""


class Watch:
    """Collects the troubles of a page from now on; of its notebook's kernel from `listen_to_kernel`
    on.
    """

    def __init__(self, page):
        self.page, self.in_page, self.listening = page, [], False
        page.on("pageerror", lambda error: self.in_page.append(str(error)))
        page.on("console", lambda message: self._judge(message))

    def _judge(self, message) -> None:
        said = f"{message.text} ({message.location['url']})"
        if message.type == "error" and said not in HARMLESS:
            self.in_page.append(said)

    def listen_to_kernel(self) -> None:
        """Hear every error of the kernel, and what callbacks write to stderr. The notebook is open
        and has a kernel.
        """
        self.page.evaluate(LISTEN)
        self.listening = True

    def check(self) -> None:
        """Fails if a cell shows an error or anything was heard, which is then forgotten: the page
        goes to another test.
        """
        heard = cell_errors(self.page) + self.troubles()
        self.in_page.clear()
        self.page.evaluate("() => { heardFromKernel.length = 0; }")
        assert not heard, heard

    def troubles(self) -> list[str]:
        """All that was heard so far."""
        return self.in_page + (
            self.page.evaluate("() => heardFromKernel") if self.listening else []
        )
