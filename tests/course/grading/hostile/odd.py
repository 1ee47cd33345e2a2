"""Submissions that are merely odd. All of them are honest, and all get what they earned: full marks
unless it says otherwise.
"""

import copy
import json
from dataclasses import dataclass, field

import nbformat
from hostile.made_up_lab import GOOD_DOUBLE, GOOD_TOTAL, IMPORTS, LAB, SETUP

HONEST = [SETUP, IMPORTS, "## markdown", GOOD_DOUBLE, GOOD_TOTAL]
FULL = 3


@dataclass(frozen=True)
class Odd:
    """Cells, or the very bytes of a file. `total` is right in all; `points` counts both."""

    cells: list[str] = field(default_factory=list)
    data: bytes = b""
    name: str = f"{LAB}.ipynb"
    points: float = FULL
    reason: str = ""


def notebook(cells: list[str]) -> nbformat.NotebookNode:
    """A notebook as JupyterLab saves it."""
    new = nbformat.v4
    made = [
        new.new_markdown_cell(cell) if cell.startswith("## ") else new.new_code_cell(cell)
        for cell in cells
    ]
    return new.new_notebook(
        cells=made,
        metadata={
            "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}
        },
    )


def written(cells: list[str]) -> bytes:
    return nbformat.writes(notebook(cells)).encode()


def changed(change) -> bytes:
    """The honest notebook's JSON after a change in place."""
    content = json.loads(written(HONEST))
    change(content)
    return json.dumps(content).encode()


def bare(content: dict) -> None:
    """As a script may leave it: cells of type and source, nothing else."""
    content["cells"] = [
        {"cell_type": cell["cell_type"], "source": "".join(cell["source"])}
        for cell in content["cells"]
    ]
    for name in ("metadata", "nbformat", "nbformat_minor"):
        del content[name]


def version_3(content: dict) -> None:
    for cell in content["cells"]:
        if cell["cell_type"] == "code":
            cell["input"] = cell.pop("source")
            cell.update(language="python", prompt_number=1, collapsed=False)
    content["worksheets"] = [{"cells": content.pop("cells"), "metadata": {}}]
    content.update(nbformat=3, nbformat_minor=0)


def version_4_4(content: dict) -> None:
    content.update(nbformat_minor=4)
    for cell in content["cells"]:
        cell.pop("id", None)


def doubled(content: dict) -> None:
    content["cells"] += copy.deepcopy(content["cells"])


def with_body(body: str, before: str = "", name: str = "double(x)") -> list[str]:
    lines = "\n".join("    " + line for line in body.strip().splitlines())
    return [SETUP, IMPORTS, before, f"def {name}:\n{lines}", GOOD_TOTAL]


ODD = {
    "as the lab gives it": Odd(HONEST),
    "debug prints": Odd(with_body("print('x is', x)\nprint(x.shape, flush=True)\nreturn 2 * x")),
    "a progress bar": Odd(
        with_body("for _ in tqdm(range(3)): pass\nreturn 2 * x", "from tqdm.auto import tqdm")
    ),
    "a notebook's progress bar": Odd(
        with_body("for _ in tqdm(range(3)): pass\nreturn 2 * x", "from tqdm.notebook import tqdm")
    ),
    "warnings": Odd(with_body("import warnings\nwarnings.warn('careful')\nreturn 2 * x")),
    "magics": Odd(
        [
            SETUP,
            "%matplotlib inline\n%load_ext autoreload\n%autoreload 2\n!pip install torch\n"
            + IMPORTS,
            "%%time\n" + GOOD_DOUBLE,
            "%%capture out\n%%time\n" + GOOD_TOTAL,
            "%%bash\nrm -rf /",
            "%%html\n<b>bold</b>",
            "files = !ls",
            "?double",
        ]
    ),
    "needs a magic's result": Odd(
        with_body("return 2 * x if isinstance(files, list) else None", "files = !ls")
    ),
    "Colab": Odd(
        [
            "from google.colab import drive\ndrive.mount('/content/drive')",
            "%cd /content/drive/MyDrive",
            '#@title Setup { display-mode: "form" }\n' + SETUP,
            IMPORTS,
            GOOD_DOUBLE + "\nfrom google.colab import files\nfiles.download('x')",
            GOOD_TOTAL,
        ]
    ),
    "own helpers, defined afterwards": Odd(
        [
            *with_body("return helper(x, FACTOR)"),
            "def helper(a, b): return inner(a) * b",
            "inner = lambda a: a",
            "FACTOR = 2",
        ]
    ),
    "another seed and default type": Odd(
        [
            SETUP,
            IMPORTS,
            "torch.manual_seed(1234)\ntorch.set_default_dtype(torch.float64)\n"
            "torch.set_num_threads(1)",
            GOOD_DOUBLE,
            GOOD_TOTAL,
        ]
    ),
    "numpy inside": Odd(
        with_body("return torch.from_numpy(np.multiply(x.numpy(), 2))", "import numpy as np")
    ),
    "float32 kept by hand": Odd(
        with_body(
            "return torch.tensor([2 * v for v in x.flatten().tolist()], "
            "dtype=x.dtype).reshape(x.shape)"
        )
    ),
    "no check cells": Odd(
        [
            SETUP,
            "import torch",
            "def double(x): return x * 2",
            "def total(values, n): return sum(values[:n])",
        ]
    ),
    "cells doubled": Odd(data=changed(doubled)),
    "an old attempt first": Odd([SETUP, IMPORTS, "def double(x):\n    return x ** 2", *HONEST[3:]]),
    "the stub is still there, below": Odd(
        [
            SETUP,
            IMPORTS,
            GOOD_DOUBLE,
            "def double(x):\n    '''Twice x.'''\n    raise NotImplementedError  # yours",
            GOOD_TOTAL,
        ]
    ),
    "out of order": Odd(
        [
            GOOD_TOTAL,
            "table = [factor]",
            "def double(x: torch.Tensor, f: int = table[0]) -> torch.Tensor: return x * f",
            "factor = 2",
            IMPORTS,
        ]
    ),
    "a lambda": Odd([IMPORTS, "double = lambda x: x * 2", GOOD_TOTAL]),
    "a partial": Odd(
        [
            IMPORTS,
            "from functools import partial\nimport operator\ndouble = partial(operator.mul, 2)",
            GOOD_TOTAL,
        ]
    ),
    "an object that can be called": Odd(
        [
            IMPORTS,
            "class Doubler:\n    def __call__(self, x): return x * 2\ndouble = Doubler()",
            GOOD_TOTAL,
        ]
    ),
    "decorated": Odd([IMPORTS, "@torch.no_grad()\ndef double(x): return x * 2", GOOD_TOTAL]),
    "a scripted function": Odd(
        [IMPORTS, "@torch.jit.script\ndef double(x):\n    return x * 2", GOOD_TOTAL]
    ),
    "inspects its own source": Odd(
        [
            IMPORTS,
            "import inspect\ndef double(x):\n    assert 'x * 2' in inspect.getsource(double)\n    "
            "return x * 2",
            GOOD_TOTAL,
        ]
    ),
    "a star import": Odd(["from torch import *", "def double(x): return mul(x, 2)", GOOD_TOTAL]),
    "future annotations": Odd(
        [
            "from __future__ import annotations",
            IMPORTS,
            "def double(x: Missing) -> AlsoMissing: return x * 2",
            GOOD_TOTAL,
        ]
    ),
    "a dataclass": Odd(
        [
            IMPORTS,
            "from dataclasses import dataclass\n@dataclass\nclass Scale:\n    factor: float = 2",
            "def double(x): return x * Scale().factor",
            GOOD_TOTAL,
        ]
    ),
    "made by exec": Odd([IMPORTS, "exec('def double(x):\\n    return x * 2')", GOOD_TOTAL]),
    "made by globals()": Odd(
        [
            IMPORTS,
            "for name, factor in {'double': 2, 'triple': 3}.items():\n    globals()[name] = "
            "lambda x, factor=factor: factor * x",
            GOOD_TOTAL,
        ]
    ),
    "a constant made by exec": Odd(
        [IMPORTS, "exec('FACTOR = 2')", "def double(x): return x * FACTOR", GOOD_TOTAL]
    ),
    "filled later": Odd(
        [
            IMPORTS,
            "table = {}",
            "table['factor'] = 1",
            "def double(x): return x * table['factor'] * sum(more)",
            "more = []",
            "table.update(factor=2)",
            "more.append(1)",
            GOOD_TOTAL,
        ]
    ),
    "a long training in between": Odd(
        [
            SETUP,
            IMPORTS,
            GOOD_DOUBLE,
            "import time\ntime.sleep(1000)",
            "for epoch in range(10**12):\n    loss = epoch",
            GOOD_TOTAL,
        ]
    ),
    "a cell that fails in between": Odd(
        [SETUP, IMPORTS, "1 / 0\ndef double(x): return x * 2", "broken(", GOOD_TOTAL]
    ),
    "a question to the user": Odd(
        [SETUP, IMPORTS, "name = input('Your name? ')", GOOD_DOUBLE, GOOD_TOTAL]
    ),
    "top-level await": Odd(
        [
            IMPORTS,
            "import asyncio\nawait asyncio.sleep(0)\nasync def two(): return 2\nfactor = await "
            "two()",
            "def double(x): return x * factor",
            GOOD_TOTAL,
        ]
    ),
    "other results of the right kind": Odd(
        [
            IMPORTS,
            GOOD_DOUBLE,
            "import numpy as np\ndef total(values, n): return np.float64(sum(values[:n]))",
        ]
    ),
    "more arguments, with defaults": Odd(
        with_body("return x * factor", name="double(x, factor=2, *, verbose=False)")
    ),
    "random numbers inside": Odd(with_body("return 2 * x + 0 * torch.rand_like(x)")),
    "the first cell indented": Odd(
        [SETUP, "  import torch", "    def double(x):\n        return x * 2", GOOD_TOTAL]
    ),
    # --- files
    "nbformat 3": Odd(data=changed(version_3)),
    "nbformat 4.4": Odd(data=changed(version_4_4)),
    "no kernelspec": Odd(data=changed(lambda content: content.update(metadata={}))),
    "an unknown kernel": Odd(
        data=changed(
            lambda content: content["metadata"].update(
                kernelspec={"name": "my-conda-env", "display_name": "?"}
            )
        )
    ),
    "nothing but cells": Odd(data=changed(bare)),
    "all cells with one id": Odd(
        data=changed(lambda content: [cell.update(id="same") for cell in content["cells"]])
    ),
    "unknown kinds of cells": Odd(
        data=changed(
            lambda content: content["cells"].extend(
                [{"cell_type": "diagram"}, None, "text", 5, {"cell_type": "code", "source": 7}]
            )
        )
    ),
    "half a character": Odd(
        data=changed(
            lambda content: content["cells"].append(
                {"cell_type": "code", "source": "'\ud800'; 1 / 0"}
            )
        )
    ),
    "Latin-1": Odd(
        data=written([*HONEST, "name = 'Jos\u00e9 Mu\u00f1oz'"]).decode().encode("latin-1")
    ),
    "UTF-8 with a mark": Odd(data=b"\xef\xbb\xbf" + written(HONEST)),
    "UTF-16": Odd(data=written(HONEST).decode().encode("utf-16")),
    "a browser's ending": Odd(data=written(HONEST), name="Kopie von 90_made_up_lab (1).ipynb.txt"),
    "without a name": Odd(HONEST, name="Untitled7.ipynb"),
    "neither setup nor name": Odd(
        ["import torch", GOOD_DOUBLE, GOOD_TOTAL], name="homework final FINAL.ipynb"
    ),
    "a script": Odd(
        data="\n\n".join([SETUP, IMPORTS, GOOD_DOUBLE, GOOD_TOTAL]).encode(),
        name="90_made_up_lab.py",
    ),
    # --- part of it
    "one question missing": Odd(
        [SETUP, IMPORTS, GOOD_TOTAL], points=2, reason="no function double"
    ),
    "one stub": Odd(
        [SETUP, IMPORTS, "def double(x):\n    raise NotImplementedError", GOOD_TOTAL],
        points=2,
        reason="still the stub",
    ),
    "a wrong answer": Odd(with_body("return x * x"), points=2, reason="value is not right"),
    "renamed": Odd(
        [SETUP, IMPORTS, "def my_double(x): return 2 * x", GOOD_TOTAL],
        points=2,
        reason="not defined",
    ),
    "changes its input": Odd(with_body("x *= 2\nreturn x"), points=2, reason="changes its input"),
    "no return": Odd(with_body("y = 2 * x"), points=2, reason="returns None"),
    "one argument too many": Odd(
        with_body("return 2 * x", name="double(x, y)"), points=2, reason="cannot be called"
    ),
    "an error inside": Odd(
        with_body("y = [1]\nreturn y[5] * x"),
        points=2,
        reason=r"raised an error, in line 3 of the cell that begins with `def double",
    ),
    "a syntax error": Odd(
        [SETUP, IMPORTS, "def double(x):\n    return 2 x", GOOD_TOTAL],
        points=2,
        reason="SyntaxError, in line 2 of the cell that begins with `def double",
    ),
    "an undefined name": Odd(
        with_body("return 2 * y"), points=2, reason="raised an error, in line 2"
    ),
    "float64 where float32 came": Odd(with_body("return 2 * x.double()")),
    "whole numbers where floats came": Odd(
        with_body("return (2 * x).round().int()"), points=2, reason="dtype"
    ),
}

BROKEN = {  # nothing can be reached in these; the reason is for a person
    "cut off": (written(HONEST)[:700], "broken JSON"),
    "empty": (b"", "empty"),
    "a list": (b"[1, 2, 3]", "not a notebook"),
    "nested without end": (b"[" * 200_000, "nested|JSON"),
    "a picture": (bytes(range(256)) * 10, "broken JSON"),
    "merge conflict": (
        written(HONEST).replace(b'"cells"', b'<<<<<<< HEAD\n"cells"', 1),
        "broken JSON",
    ),
    "cells are a number": (b'{"cells": 5}', "cells are no list"),
}
