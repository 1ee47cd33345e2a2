"""`python3 -m lab_utils demo NAME`: one live demo in a window of its own, with presets as buttons,
for a lecture hall.

Voila shows the widgets that the labs show, without the notebook around them, from this machine and
without a network. To add a demo, add a line to DEMOS: any function that returns the box of
`drawing.live` will do.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab_utils.files import ROOT, LabKitError
from lab_utils.start.jupyter import own_settings
from lab_utils.start.lab import results_folder


@dataclass(frozen=True)
class Demo:
    """`builder` is "module:function", called without arguments. A preset sets the controls it
    names, the others begin anew.

    `needs` is the lab that must have been run, because the demo shows what it trained; "" for a
    demo that needs nothing.
    """

    builder: str
    title: str
    presets: dict[str, dict[str, Any]] = field(default_factory=dict)
    needs: str = ""


BF16 = {"weights": "bf16", "gradients": "bf16", "checkpointing": True}
DEMOS = {
    "training": Demo(
        "lab_utils.memory.demos:training_calculator",
        "Where does the memory of fine-tuning go?",
        {
            "7B, full": {"model": "Llama-2-7B", **BF16},
            "7B, LoRA": {"model": "Llama-2-7B", "method": "lora", **BF16},
            "7B, QLoRA": {"model": "Llama-2-7B", "method": "qlora", **BF16},
            "65B on one card": {"model": "LLaMA-65B", "method": "qlora", **BF16},
        },
    ),
    "bits": Demo(
        "lab_utils.quantization.demos:bit_explorer",
        "One number in six formats",
        {
            "0.1": {"value": 0.1},
            "too large for FP16": {"value": 70000.0},
            "too small for FP16": {"value": 1e-8},
            "NF4, absmax 8": {"value": 2.5, "absmax": 8.0},
        },
    ),
    "buckets": Demo(
        "lab_utils.quantization.demos:bucket_demo",
        "Where should the buckets be?",
        {
            "4 bits": {"bits": 4},
            "2 bits": {"bits": 2},
            "8 bits": {"bits": 8},
            "one scale for all": {"block_size": 4096},
        },
    ),
    "outlier": Demo(
        "lab_utils.quantization.demos:outlier_demo",
        "What one outlier does",
        {
            "one outlier": {"outlier": 100.0},
            "a huge one": {"outlier": 300.0},
            "a huge one, small blocks": {"outlier": 300.0, "block_size": 8},
        },
    ),
    "block-size": Demo(
        "lab_utils.quantization.demos:block_size_demo",
        "How large should a block be?",
        {
            "QLoRA: 64": {"block_size": 64},
            "smallest": {"block_size": 16},
            "largest": {"block_size": 1024},
        },
    ),
    "memory": Demo(
        "lab_utils.memory.demos:memory_calculator",
        "What does a model weigh?",
        {
            "65B in 4 bits": {"billions": 65},
            "7B": {"billions": 7},
            "7B in 8 bits": {"billions": 7, "bits": 8},
            "180B": {"billions": 180},
        },
    ),
    "checkpointing": Demo(
        "lab_utils.memory.demos:stepper_demo",
        "Forget now, compute again later",
        {
            "keep everything": {"plan": "none", "step": 16},
            "every √n": {"plan": "sqrt(n)", "step": 16},
            "in the backward pass": {"plan": "sqrt(n)", "step": 34},
            "every layer": {"plan": "every layer", "step": 34},
        },
    ),
    "paging": Demo(
        "lab_utils.memory.demos:page_demo",
        "Pages between GPU and CPU",
        {
            "a long batch": {"long": 20, "step": 15},
            "room for all": {"capacity": 24, "long": 6, "step": 15},
            "back on a slow bus": {"speed": 4.0, "long": 20, "step": 28},
        },
    ),
    "rank": Demo(
        "lab_utils.course.stage:rank_of_cheese",
        "How much is in a few ranks?",
        {
            "rank 1": {"rank": 1},
            "rank 8": {"rank": 8},
            "rank 32": {"rank": 32},
            "noise": {"name": "noise", "rank": 32},
        },
    ),
    "adapters": Demo(
        "lab_utils.course.stage:adapters_of_models",
        "How large is an adapter?",
        {"Llama-2 7B, rank 8": {}, "rank 64": {"rank": 64}, "65B": {"model": "LLaMA-65B"}},
    ),
    "faults": Demo(
        "lab_utils.pavlos.demos:fault_browser",
        "What a model's reply can look like",
        {
            "fenced": {"name": "json fence"},
            "chatty": {"name": "prose before"},
            "never closed": {"name": "fence never closed"},
        },
    ),
    "duplicates": Demo(
        "lab_utils.course.stage:duplicates_of_pavlos",
        "How alike is too alike?",
        {"strict": {"threshold": 0.9}, "loose": {"threshold": 0.5}},
    ),
    "methods": Demo(
        "lab_utils.course.stage:methods_compared",
        "Eleven ways to fine-tune one model",
        {
            "all or a rank": {"second_method": "LoRA", "third_method": "-"},
            "what QLoRA adds": {
                "first_method": "LoRA",
                "second_method": "QLoRA",
                "third_method": "-",
            },
            "the smallest": {
                "first_method": "norms",
                "second_method": "IA3",
                "third_method": "prompt tuning",
            },
        },
    ),
    "tuning-job": Demo(
        "lab_utils.course.stage:tuning_job",
        "A tuning job, simulated",
        {
            "half way": {"step": 4},
            "cancelled": {"step": 5, "happens": "cancelled at step 3"},
            "a bad row": {"step": 5, "happens": "bad row at step 2"},
        },
    ),
    "break-even": Demo(
        "lab_utils.course.stage:examples_or_tuning",
        "Examples in the prompt, or tuning?",
        {
            "2 examples": {"shots": 2},
            "50 examples": {"shots": 50},
            "10 epochs": {"epochs": 10},
            "no example": {"shots": 0},
        },
    ),
    "pavlos": Demo("lab_utils.course.stage:pavlos_chat", "Pavlos, before and after", needs="06"),
    "voices": Demo("lab_utils.course.stage:voices_chat", "One base, three voices", needs="07"),
    "blend": Demo(
        "lab_utils.course.stage:voices_blended",
        "Half Pavlos, half auctioneer",
        {"all Pavlos": {"weight": 0.0}, "all auctioneer": {"weight": 1.0}},
        needs="07",
    ),
}
EXAMPLES = ["What does Manchego taste like?", "Where does Halloumi come from?", "What is 3 plus 4?"]
VOICES = ("pavlos", "auctioneer", "terse")

# large on a small screen, and growing with a large one: a hall sees shares of the screen
STYLE = """<style>
.lab-kit-stage .lab-kit-demo { --jp-widgets-font-size: max(20px, 1.5vw);
  --jp-widgets-inline-height: max(38px, 2.9vw); }
.lab-kit-stage { position: fixed; inset: 0; z-index: 9; background: white; padding: 10px 24px;
  font-size: max(14px, 1.1vw); overflow: auto; }
.lab-kit-stage h1 { font-size: max(34px, 2.6vw); line-height: 1.2; margin: 0; }
.lab-kit-stage .widget-play button { padding: 0; text-overflow: clip; }
.lab-kit-presets { flex-flow: row wrap; }
.lab-kit-presets button { width: auto; height: max(44px, 3.2vw); padding: 0 18px;
  font-size: max(20px, 1.5vw); }
.lab-kit-stage button:focus-visible { outline: 4px solid #E69F00; outline-offset: 2px; }
.lab-kit-stage .lab-kit-demo, .lab-kit-stage .lab-kit-picture { flex: 1 1 0; min-height: 0; }
.lab-kit-stage [role=status] { font-size: max(34px, 2.6vw) !important; }
.lab-kit-stage .lab-kit-picture .widget-html-content { width: 100%; height: 100%; }
.lab-kit-stage .lab-kit-demo svg[role=img] { max-width: none !important; width: 100% !important;
  height: 100% !important; }
@media (max-width: 700px) {
  .lab-kit-stage h1 { font-size: 24px; }
  .lab-kit-presets button { height: 36px; padding: 0 10px; font-size: 16px; }
}
</style>"""


TEMPLATE = """{%- extends 'voila/templates/lab/index.html.j2' -%}
{%- block notebook_css -%}
{{ super() | replace('<link rel="stylesheet" href="https://', '<link data-left-out="https://') }}
{%- endblock notebook_css -%}
"""
"""Voila's own page, less the icons that it would fetch: a hall may have no network."""

# all that widgets need
EXTENSIONS = ("@jupyter-widgets/jupyterlab-manager", "@voila-dashboards/widgets-manager8")


# ---------------------------------------------------------------- demos that need something to show
def rank_of_cheese() -> Any:
    """Lab 04's rank slider on a picture and on noise, which no rank below the full one can hold."""
    from lab_utils.lora.demos import decompose, example_matrices, rank_demo

    return rank_demo(decompose(example_matrices()))


def adapters_of_models() -> Any:
    """Lab 04's adapter calculator on the models of data/reference."""
    from lab_utils.lora.demos import adapter_calculator

    models = json.loads(
        (ROOT / "data" / "reference" / "architectures.json").read_text(encoding="utf-8")
    )["models"]
    return adapter_calculator(models)


def duplicates_of_pavlos(n_rows: int = 120) -> Any:
    """Lab 05's threshold on the first training questions; every pair is compared, so a hundred are
    enough.
    """
    from lab_utils.pavlos.demos import duplicates_demo

    lines = (ROOT / "data" / "pavlos" / "train.jsonl").read_text(encoding="utf-8").splitlines()
    return duplicates_demo([json.loads(line) for line in lines[:n_rows]])


def methods_compared() -> Any:
    """Lab 07's five axes, from the wide comparison recorded in data/reference."""
    from lab_utils.lora.demos import axes_demo
    from lab_utils.lora.methods import METHODS
    from lab_utils.lora.scoring import five_axes

    record = json.loads(
        (ROOT / "data" / "reference" / "peft_methods.json").read_text(encoding="utf-8")
    )
    shares = five_axes(record["methods"], record["base"]["tokens_per_second"])
    return axes_demo(
        {METHODS[name].title: row for name, row in shares.items()}, ("full", "LoRA", "IA3")
    )


def tuning_job() -> Any:
    """Lab 08's simulated job on a file of 200,000 tokens, at the lab's example of a price."""
    from lab_utils.gemini.demos import job_demo
    from lab_utils.gemini.ledger import EXAMPLE_TUNING_PRICE

    return job_demo(tokens=200_000, dollars_per_million=EXAMPLE_TUNING_PRICE)


def examples_or_tuning() -> Any:
    """Lab 08's break-even, with the tokens (estimated) of the training pairs and of 50 of them as
    examples, the prices in data/reference, and the lab's example of a price of tuning.
    """
    from statistics import mean

    from lab_utils.gemini.demos import break_even_demo
    from lab_utils.gemini.ledger import EXAMPLE_TUNING_PRICE, load_prices
    from lab_utils.gemini.rows import estimate_tokens, pavlos_rows, row_tokens, text_of
    from lab_utils.gemini.tuning import default_model

    prices, rows = load_prices(), pavlos_rows("train")
    price = prices[default_model(prices)]
    texts = [tuple(map(text_of, row["contents"])) for row in rows]
    examples = "".join(f"Question: {q}\nAnswer: {a}\n\n" for q, a in texts[:50])
    bare = "Question: \nAnswer:"
    return break_even_demo(
        file_tokens=sum(map(row_tokens, rows)),
        shot_tokens=(estimate_tokens(examples + bare) - estimate_tokens(bare)) / 50,
        base_tokens=mean(estimate_tokens(question) for question, _ in texts),
        answer_tokens=mean(estimate_tokens(answer) for _, answer in texts),
        tuning_price=EXAMPLE_TUNING_PRICE,
        input_price=price.input,
        output_price=price.output,
    )


def trained(lab: str, *names: str, runs: Path | None = None) -> list[Path]:
    """The folders of the adapters that a lab saved. LabKitError if it was not run yet."""
    folders = [(runs or results_folder()) / lab / name for name in names]
    if not all(folder.exists() for folder in folders):
        raise LabKitError(
            "What this demo shows is not trained yet. Train it first: python3 -m lab_utils run "
            f"{lab}"
        )
    return folders


def pavlos_chat(runs: Path | None = None) -> Any:
    """Lab 06's chat with the adapter that it saved. LabKitError if the lab was not run yet."""
    (adapter,) = trained("06", "pavlos-adapter", runs=runs)
    from peft import AutoPeftModelForCausalLM

    from lab_utils.finetuning.base_model import load_base
    from lab_utils.finetuning.chat import answer_questions
    from lab_utils.finetuning.demos import BeforeAfterChat

    base, tokenizer = load_base("cpu")
    tuned = AutoPeftModelForCausalLM.from_pretrained(adapter)

    def asker(model: Any) -> Callable[[str], str]:
        return lambda question: answer_questions(model, tokenizer, [question])[0].text

    return BeforeAfterChat(asker(base), asker(tuned), EXAMPLES)


def voices_chat(runs: Path | None = None) -> Any:
    """Lab 07's chat with a voice selector, on the adapters that it saved. LabKitError if the lab
    was not run yet.
    """
    folders = dict(zip(VOICES, trained("07", *VOICES, runs=runs), strict=True))
    from lab_utils.lora.adapters import BASE, answer_as, load_adapters
    from lab_utils.lora.demos import VoiceChat

    model, tokenizer = load_adapters(folders)
    names = {"base": BASE, **{name: name for name in folders}}
    return VoiceChat(
        lambda voice, question: answer_as(model, tokenizer, names[voice], [question])[0].text,
        list(names),
        EXAMPLES,
    )


def voices_blended(runs: Path | None = None) -> Any:
    """Lab 07's two adapters blended by a slider. LabKitError if the lab was not run yet."""
    names = VOICES[:2]
    folders = dict(zip(names, trained("07", *names, runs=runs), strict=True))
    from lab_utils.lora.adapters import answer_as, blend, load_adapters
    from lab_utils.lora.demos import blend_demo

    model, tokenizer = load_adapters(folders)

    def ask(weight: float, question: str) -> str:
        blend(model, {names[0]: 1 - weight, names[1]: weight})
        return answer_as(model, tokenizer, "blend", [question])[0].text

    return blend_demo(ask, names, EXAMPLES[1])


# --------------------------------------------------------------------------------------- the stage
def find_demo(name: str) -> Demo:
    """The demo of that name. LabKitError lists what there is."""
    if name not in DEMOS:
        raise LabKitError(f"There is no demo {name!r}. The demos are:\n{listing()}")
    return DEMOS[name]


def listing() -> str:
    """A line for each demo."""
    return "\n".join(f"  {name:<15} {demo.title}" for name, demo in DEMOS.items())


def stage(name: str) -> Any:
    """Title, presets and the demo in one box (ipywidgets.VBox) that fills its window."""
    import ipywidgets

    demo = find_demo(name)
    module, function = demo.builder.split(":")
    shown = getattr(importlib.import_module(module), function)()
    shown.layout.width = "100%"
    buttons = [preset_button(label, values, shown) for label, values in presets_of(demo).items()]
    row = ipywidgets.HBox(buttons)
    row.add_class("lab-kit-presets")
    box = ipywidgets.VBox([ipywidgets.HTML(f"{STYLE}<h1>{demo.title}</h1>"), row, shown])
    box.add_class("lab-kit-stage")
    return box


def presets_of(demo: Demo) -> dict[str, dict[str, Any]]:
    """The demo's presets, and one that goes back to how it begins; none where it has none."""
    return {"start": {}, **demo.presets} if demo.presets else {}


def preset_button(label: str, values: dict[str, Any], shown: Any) -> Any:
    """A button that sets the named controls of a demo, and its others to what they are now."""
    import ipywidgets

    all_values = {**{name: control.value for name, control in shown.controls.items()}, **values}
    button = ipywidgets.Button(description=label, tooltip=f"Show: {label}")
    button.on_click(lambda _button: show(shown, all_values))
    return button


def show(shown: Any, values: dict[str, Any]) -> None:
    """Set the demo's controls to the values."""
    # the browser copies play's place to the step: it must not be moved by a new end of the course
    if hasattr(shown, "play"):
        shown.controls["step"].value = values["step"]
        shown.play.value = shown.controls["step"].value
    for name, value in values.items():
        shown.controls[name].value = value


# ------------------------------------------------------------------------------------- the command
def write_page(name: str, folder: Path) -> Path:
    """Write a notebook whose one cell shows the demo, and the template for its page. Return the
    notebook's path.
    """
    import nbformat

    cell = nbformat.v4.new_code_cell(f"from lab_utils.course.stage import stage\n\nstage({name!r})")
    notebook = nbformat.v4.new_notebook(cells=[cell])
    notebook.metadata.kernelspec = {
        "name": "python3",
        "display_name": "Python 3",
        "language": "python",
    }
    nbformat.write(notebook, folder / f"{name}.ipynb")
    template = folder / "voila" / "templates" / "stage"
    template.mkdir(parents=True)
    (template / "index.html.j2").write_text(TEMPLATE)
    (template / "conf.json").write_text('{"base_template": "lab"}')
    return folder / f"{name}.ipynb"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which demo, and where it is served."""
    parser.add_argument(
        "name", nargs="?", metavar="NAME", help="a demo; without one, the demos are listed"
    )
    parser.add_argument(
        "--port",
        type=int,
        default=8866,
        help="on this machine only (default: 8866, or the next free one)",
    )
    parser.add_argument("--no-browser", action="store_true", help="do not open a browser")


def main(args: argparse.Namespace) -> int:
    """Serves the demo until it is stopped. Returns Voila's exit code."""
    if args.name is None:
        print(f"python3 -m lab_utils demo NAME, where NAME is one of\n{listing()}")
        return 0
    find_demo(args.name)
    options = [
        "--Voila.ip=127.0.0.1",
        f"--port={args.port}",
        "--template=stage",
        "--show_tracebacks=True",
        *[f"--VoilaConfiguration.extension_allowlist={name}" for name in EXTENSIONS],
        *["--no-browser"] * args.no_browser,
    ]
    with tempfile.TemporaryDirectory() as folder:
        notebook = write_page(args.name, Path(folder))
        # where templates are looked for
        paths = os.pathsep.join(filter(None, [folder, os.environ.get("JUPYTER_PATH")]))
        environ = {**own_settings(results_folder() / "jupyter"), "JUPYTER_PATH": paths}
        return subprocess.call(
            [sys.executable, "-m", "voila", str(notebook), *options], env=environ
        )
