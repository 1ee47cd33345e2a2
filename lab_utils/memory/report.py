"""The memory ledger at work: `python3 -m lab_utils memory MODEL`, and the same on real tensors.

MODEL is a name in `data/reference/architectures.json`, "cheese-base", or a `config.json` (or the
folder that holds one).
"""

from __future__ import annotations

import argparse
import difflib
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from lab_utils.files import DATA, LabKitError
from lab_utils.memory.configurations import read_configuration
from lab_utils.memory.ledger import as_record, fits_on, ledger, peak, size_range
from lab_utils.memory.plan import ATTENTION, METHODS, OPTIMIZERS, TYPES, Line, Plan
from lab_utils.memory.sizes import FAMILIES, Architecture, Model, tensor_bytes

REFERENCE = DATA / "reference" / "architectures.json"
CHEESE_BASE = DATA / "models" / "cheese-base"


# -------------------------------------------------------------------------------------- which model
def known_models() -> dict[str, dict[str, Any]]:
    """Name -> fields of the models whose sizes ship with the kit."""
    return json.loads(REFERENCE.read_text(encoding="utf-8"))["models"]


def architecture_named(name: str) -> Architecture:
    """The sizes of a known dense model or of "cheese-base"; needs no torch.

    Raises ValueError for another name.
    """
    model, _ = model_named(name)
    if not isinstance(model, Architecture):
        raise ValueError(f"{name} is no dense model of this kit: use model_named, which counts it.")
    return model


def model_named(name: str) -> tuple[Model, list[str]]:
    """(model, notes) of a known model, of "cheese-base", of a `config.json` or of its folder.

    A note says in a line what was assumed. Raises ValueError for an unknown name, and for a file
    that is no configuration of a language model.
    """
    models = {known.lower(): fields for known, fields in known_models().items()}
    ours = models.get(name.lower())
    if name == "cheese-base":
        ours = read_fields(CHEESE_BASE / "config.json", name)
    try:
        if ours and ours["model_type"] in FAMILIES:
            return Architecture.from_fields(ours), []
        path = Path(name)
        file = path / "config.json" if path.is_dir() else path
        return read_configuration(ours or read_fields(file, name))
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def read_fields(path: Path, name: str) -> dict[str, Any]:
    """The fields in a configuration file; ValueError says what it is instead, or what is near."""
    if name and Path(name).is_dir() and not path.is_file():
        raise ValueError("this folder has no config.json: give a folder that holds a model.")
    if not path.is_file():
        known = ["cheese-base", *known_models()]
        near = difflib.get_close_matches(name, known, n=1)
        every = f"the names are {', '.join(known)}; or give a config.json."
        advice = f"did you mean {near[0]}?" if near else every
        raise ValueError(f"no model and no file has this name: {advice}")
    try:
        fields = json.loads(path.read_text(encoding="utf-8-sig"))  # with a byte-order mark, too
    except ValueError as error:
        raise ValueError(f"this file is no JSON ({error}): give a model's config.json.") from None
    if not isinstance(fields, dict):
        raise ValueError(
            f"this file holds a {type(fields).__name__}: a config.json holds names and values in "
            "braces."
        )
    return fields


# -------------------------------------------------------------------------------------- the command
def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `memory` understands; a type left out is what the libraries do by themselves."""
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="a known model such as Llama-2-7B, cheese-base, or a config.json",
    )
    parser.add_argument("--method", choices=METHODS, default="qlora")
    parser.add_argument(
        "--rank", type=int, default=Plan.rank, help="rank of the adapters (default %(default)s)"
    )
    parser.add_argument(
        "--seq",
        dest="sequence",
        type=int,
        default=Plan.sequence,
        help="tokens (default %(default)s)",
    )
    parser.add_argument(
        "--batch", type=int, default=Plan.batch, help="sequences in a step (default %(default)s)"
    )
    for name in ("weights", "states", "adapters", "unquantized"):
        parser.add_argument(
            f"--{name}",
            choices=sorted(TYPES),
            default=getattr(Plan, name),
            help="type (default %(default)s)",
        )
    for name in ("gradients", "activations"):
        parser.add_argument(
            f"--{name}", choices=sorted(TYPES), help="type (default: as the libraries do)"
        )
    parser.add_argument(
        "--master", action="store_true", help="keep a float32 copy of what is trained"
    )
    parser.add_argument("--optimizer", choices=OPTIMIZERS, default=Plan.optimizer)
    parser.add_argument("--attention", choices=ATTENTION, default=Plan.attention)
    parser.add_argument(
        "--checkpointing",
        action="store_true",
        help="keep each layer's input, compute the rest again",
    )
    parser.add_argument(
        "--json", action="store_true", help="print the ledger as JSON, sizes in bytes"
    )


def main(args: argparse.Namespace) -> int:
    """Print the ledger of the model and plan."""
    try:
        plan = Plan(**{name: getattr(args, name) for name in Plan.__dataclass_fields__})
        model, notes = model_named(args.model)
        lines = ledger(model, plan)
    except ValueError as error:
        raise LabKitError(str(error)) from None
    if args.json:
        record = as_record(args.model, plan, lines) | {"notes": notes}
        print(json.dumps(record, indent=2))
    else:
        print(as_text(args.model, plan, lines, notes))
    return 0


def as_text(name: str, plan: Plan, lines: list[Line], notes: Iterable[str] = ()) -> str:
    """The ledger as a table, in GB, with the cards that hold it."""
    how = f"rank {plan.rank}, " if not plan.full else ""
    rows = [
        f"{name}, {plan.method}, {how}{plan.batch} x {plan.sequence} tokens, {plan.optimizer}, "
        f"{plan.attention} attention" + (", checkpointing" if plan.checkpointing else ""),
        *notes,
        "",
    ]
    for line in lines:
        size = size_range(line.low, line.high)
        rows.append(f"{line.name:30}{size:>17} GB  {line.when:5} {line.formula}")
        rows.append(f"{'':58}{line.source}; {line.measured}")
    rows += ["", f"{'at the peak of a step':30}{size_range(*peak(lines)):>17} GB"]
    verdicts = fits_on(lines)
    for verdict, words in (("yes", "fits on"), ("perhaps", "perhaps on"), ("no", "too large for")):
        if cards := [card for card, of_card in verdicts.items() if of_card == verdict]:
            rows.append(f"{words + ':':16}{', '.join(cards)}")
    return "\n".join(rows)


# ------------------------------------------------------------------------- the same on real tensors
def constants_of(parameter: Any) -> dict[str, list]:
    """The tensors of a 4-bit weight's constants, {"absmax": ..., "nested absmax": ...}.

    Empty for other parameters.
    """
    from lab_utils.quantization.double import stored_tensors

    state = getattr(parameter, "quant_state", None)
    if state is None:
        return {}
    tensors = stored_tensors(state)
    return {"absmax": [tensors.pop("absmax")], "nested absmax": list(tensors.values())}


def weight_bytes(model: Any) -> dict[str, int]:
    """Bytes of a model's parameters by the names of the ledger."""
    sizes: dict[str, int] = {}
    quantized = any(constants_of(parameter) for parameter in model.parameters())
    for name, parameter in model.named_parameters():
        constants = constants_of(parameter)
        own = "unquantized weights" if quantized else "weights"
        if "lora_" in name:
            own = "adapters"
        elif constants:
            own = "codes"
        for part, tensors in {own: [parameter], **constants}.items():
            sizes[part] = sizes.get(part, 0) + tensor_bytes(tensors)
    return sizes


def saved_bytes(model: Any, compute: Callable[[], Any]) -> tuple[Any, int]:
    """(what `compute()` returns, bytes that autograd saved), without parameters and buffers.

    Each storage counts once, whole, however many views of it are saved.
    """
    from lab_utils.memory.measuring import SavedBytes

    own = [*model.parameters(), *model.buffers()]
    own += [
        tensor
        for p in model.parameters()
        for tensors in constants_of(p).values()
        for tensor in tensors
    ]
    with SavedBytes(own) as saved:
        result = compute()
    return result, saved.now


def measure_step(model: Any, input_ids: Any, optimizer: Any = None) -> dict[str, int]:
    """Bytes of one training step on `input_ids`, (batch, sequence), each token its own label.

    {"activations", "logits and loss", "gradients"}, the weights by their parts, and "optimizer
    states" where there is one (without its step counters). The model must be in training mode;
    gradients are cleared at the end.
    """
    logits, activations = saved_bytes(
        model, lambda: model(input_ids=input_ids, use_cache=False).logits
    )
    loss, at_loss = saved_bytes(
        model, lambda: model.loss_function(logits, input_ids, logits.shape[-1])
    )
    loss.backward()
    gradients = tensor_bytes(p.grad for p in model.parameters() if p.grad is not None)
    sizes = {
        "activations": activations,
        "logits and loss": at_loss,
        "gradients": gradients,
        **weight_bytes(model),
    }
    if optimizer is not None:
        optimizer.step()
        states = [
            value
            for state in optimizer.state.values()
            for name, value in state.items()
            if "map" not in name
        ]
        sizes["optimizer states"] = tensor_bytes(
            value for value in states if getattr(value, "ndim", 0)
        )
    model.zero_grad()
    return sizes


def predicted_parts(lines: list[Line]) -> dict[str, float]:
    """The ledger in the parts that `measure_step` counts.

    What checkpointing computes again is not saved, so it is left out.
    """
    sizes: dict[str, float] = {}
    for line in lines:
        if line.when != "card" and "again" not in line.name and "workspace" not in line.name:
            name = "activations" if line.name.startswith("activations") else line.name
            sizes[name] = sizes.get(name, 0) + line.low
    return sizes
