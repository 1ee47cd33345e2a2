"""Ordinary ways to build state in a notebook, none of them an attack: each makes a name whose value
is 1. `NAME` stands for it.

A reader of the source alone cannot see most of them; run from top to bottom, each of them works.
"""

WAYS = {
    "filled by a function": [
        "units = {}\ndef fill(table):\n    table['GB'] = 1\nfill(units)",
        "NAME = units['GB']",
    ],
    "read late from a table that a function fills": [
        "NAME_units = {}\ndef NAME_fill(table):\n    table['GB'] = 1\nNAME_fill(NAME_units)",
        "class NAME_Of:\n    def __rmul__(self, other): return other * NAME_units['GB']\n"
        "NAME = NAME_Of()",
    ],
    "a list grown by a function": [
        "grown = []\ndef grow():\n    grown.append(1)\ngrow()",
        "NAME = grown[0]",
    ],
    "global inside a function": ["def set_up():\n    global NAME\n    NAME = 1\nset_up()"],
    "an array filled in place": [
        "import numpy as np\narray = np.zeros(1)\nnp.copyto(array, 1)",
        "NAME = float(array[0])",
    ],
    "bisect.insort": [
        "import bisect\nordered = [3]\nbisect.insort(ordered, 1)",
        "NAME = ordered[0]",
    ],
    "setattr": ["class Options: pass\nsetattr(Options, 'scale', 1)", "NAME = Options.scale"],
    "a loop over objects": [
        "class Layer: scale = 5\nlayers = [Layer(), Layer()]",
        "for layer in layers:\n    layer.scale = 1",
        "NAME = layers[1].scale",
    ],
    "an alias changed later": ["first = [5]\nsecond = first\nsecond[0] = 1", "NAME = first[0]"],
    "map of update": [
        "table = {}\nlist(map(table.update, [{'a': 5}, {'a': 1}]))",
        "NAME = table['a']",
    ],
    "a registering decorator": [
        "registry = {}\ndef register(function):\n    registry[function.__name__] = function\n    "
        "return function",
        "@register\ndef one(): return 1",
        "NAME = registry['one']()",
    ],
    "%%writefile, then import": [
        "%%writefile NAME_helper.py\nvalue = 1",
        "from NAME_helper import value as NAME",
    ],
    "%%capture": ["%%capture out\nNAME = 1\nprint('x')", "out.show()"],
    "%pylab": ["%pylab inline", "NAME = int(ones(1)[0])"],
    "a call that fills another module": [
        "import types, sys",
        "def install():\n    made = types.ModuleType('made')\n    made.value = 1\n"
        "    sys.modules['made'] = made\ninstall()",
        "import made\nNAME = made.value",
    ],
    "exec": ["exec('NAME = 1')"],
    "globals()": ["for name in ['NAME']:\n    globals()[name] = 1"],
    "an environment variable": [
        "import os\ndef set_it():\n    os.environ['SCALE'] = '1'\nset_it()",
        "NAME = int(os.environ['SCALE'])",
    ],
    "a file written and read": [
        "def save():\n    with open('scale.txt', 'w') as file:\n        file.write('1')\nsave()",
        "NAME = int(open('scale.txt').read())",
    ],
    "a generator moved on": ["numbers = iter([5, 1])\nnext(numbers)", "NAME = next(numbers)"],
    "a class attribute set by an instance": [
        "class Counter:\n    n = 0\n    def up(self): Counter.n += 1\ndef count(c): c.up()\n"
        "count(Counter())",
        "NAME = Counter.n",
    ],
    "a closure that counts": [
        "def counter():\n    n = [0]\n    def up():\n        n[0] += 1\n        return n[0]\n"
        "    return up\nup = counter()",
        "NAME = up()",
    ],
}


def cells_of(way: str, name: str) -> list[str]:
    """The cells of one way, making `name`; its helpers' names are kept apart from other ways'."""
    return [cell.replace("NAME", name) for cell in WAYS[way]]
