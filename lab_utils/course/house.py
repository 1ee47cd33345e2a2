"""`python3 -m lab_utils house`: the plan of the house, drawn from the real imports into
docs/house.md.

A room is a folder of `lab_utils`, or one of its files. Rooms are listed from the ground up: a room
imports from those before it, never from those after it; inside a room, what computes imports no
pictures, and pictures import no demos. `problems` says where that is not so, and the tests hold it
to nothing.
"""

from __future__ import annotations

import argparse
import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from lab_utils.files import ROOT, write_text

ROOMS = (
    "files",
    "start",
    "drawing",
    "quantization",
    "memory",
    "gemini",
    "pavlos",
    "finetuning",
    "lora",
    "checking",
    "course",
)
SHOWS = {"pictures": 1, "demos": 2}  # of a file: what it shows; all others compute
PAGE = ROOT / "docs" / "house.md"
BEGIN, END = "<!-- drawn by `python3 -m lab_utils house` -->", "<!-- end of the drawing -->"


class Import(NamedTuple):
    """One import inside the package, of modules without `lab_utils.` in front."""

    importer: str
    imported: str

    def rooms(self) -> tuple[str, str]:
        """The rooms of both."""
        return self.importer.split(".")[0], self.imported.split(".")[0]


def imports_of(module: str, source: str) -> Iterator[Import]:
    """All imports of the kit's own modules in a source text, those inside functions too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lab_utils."):
            yield Import(module, node.module.removeprefix("lab_utils."))
        elif isinstance(node, ast.ImportFrom) and node.module == "lab_utils":
            yield from (Import(module, name.name) for name in node.names if name.name.islower())
        elif isinstance(node, ast.Import):
            names = [name.name for name in node.names if name.name.startswith("lab_utils.")]
            yield from (Import(module, name.removeprefix("lab_utils.")) for name in names)


def house_imports(package: Path = ROOT / "lab_utils") -> list[Import]:
    """Every import between the kit's modules; `__main__`, which starts the commands of all rooms,
    is left out.
    """
    found = []
    for path in sorted(package.rglob("*.py")):
        module = ".".join(path.relative_to(package).with_suffix("").parts).removesuffix(".__init__")
        if module not in ("__main__", "__init__"):
            found += imports_of(module, path.read_text(encoding="utf-8"))
    return found


def problems(imports: list[Import]) -> list[str]:
    """What breaks the plan, in words: an upward import, or a picture below what computes."""
    found = []
    for link in imports:
        above, below = link.rooms()
        if above not in ROOMS or below not in ROOMS:
            found.append(
                f"{link.importer} imports {link.imported}: one of them is in no room of the plan"
            )
        elif ROOMS.index(below) > ROOMS.index(above):
            found.append(f"{link.importer} imports {link.imported}, which is above it")
        elif above not in ("checking", "course", "drawing") and shows(link.imported) > shows(
            link.importer
        ):
            found.append(f"{link.importer} imports {link.imported}, which shows more than it does")
    return found


def shows(module: str) -> int:
    """0 for what computes, 1 for pictures and what they share, 2 for demos."""
    room, *_, name = module.split(".")[0], module.split(".")[-1]
    return max(SHOWS.get(name, 0), int(room == "drawing" and name != "quiz"))


def arrows(imports: list[Import]) -> list[tuple[str, str]]:
    """(room, room that it builds on), without those that follow from others."""
    direct = {link.rooms() for link in imports if len(set(link.rooms())) == 2}
    reach = set(direct)
    for via in ROOMS:
        reach |= {(a, c) for a, b in reach if b == via for b2, c in reach if b2 == via}
    kept = [
        (a, b)
        for a, b in direct
        if not any((a, via) in reach and (via, b) in reach for via in ROOMS)
    ]
    return sorted(kept, key=lambda arrow: (ROOMS.index(arrow[0]), ROOMS.index(arrow[1])))


def summary(path: Path) -> str:
    """The first paragraph of a module's docstring, as one line."""
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return " ".join(docstring.split("\n\n")[0].split())


def drawing(package: Path = ROOT / "lab_utils") -> str:
    """The plan as Markdown: a Mermaid graph of the rooms, and what each room is and holds."""
    graph = "\n".join(f"    {above} --> {below}" for above, below in arrows(house_imports(package)))
    rows = []
    for room in reversed(ROOMS):
        folder = package / room
        files = sorted(path.stem for path in folder.glob("[!_]*.py")) if folder.is_dir() else [room]
        about = summary(folder / "__init__.py" if folder.is_dir() else package / f"{room}.py")
        rows.append(f"| `{room}` | {about} | {', '.join(files)} |")
    return (
        f"```mermaid\ngraph TD\n{graph}\n```\n\n| room | what it is | files |\n|---|---|---|\n"
        + "\n".join(rows)
    )


def with_drawing(page: str) -> str:
    """The page with the drawing of today between its marks. ValueError where a mark is missing."""
    if page.count(BEGIN) != 1 or page.count(END) != 1:
        raise ValueError(
            f"docs/house.md needs one line {BEGIN!r} and one line {END!r}: the drawing goes "
            "between them"
        )
    before, rest = page.split(BEGIN)
    return f"{before}{BEGIN}\n{drawing()}\n{END}{rest.split(END)[1]}"


def lines_by_room(package: Path = ROOT / "lab_utils") -> dict[str, int]:
    """{room: lines of Python}."""
    paths = {room: [*(package / room).rglob("*.py"), *package.glob(f"{room}.py")] for room in ROOMS}
    return {
        room: sum(len(path.read_text(encoding="utf-8").splitlines()) for path in found)
        for room, found in paths.items()
    }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """No options."""


def main(args: argparse.Namespace) -> int:
    """Draws the plan, and says how large the rooms are and what breaks the plan. 1 if something
    does.
    """
    write_text(PAGE, with_drawing(PAGE.read_text(encoding="utf-8")))
    sizes = lines_by_room()
    print(
        "\n".join(f"{room:<14}{size:>7,}" for room, size in sizes.items()),
        f"\n{'all':<14}{sum(sizes.values()):>7,} lines",
    )
    found = problems(house_imports())
    print("\n".join(found))
    return int(bool(found))
