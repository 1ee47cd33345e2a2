"""Exercises of lab 09_real_model: parameters with tied embeddings and grouped queries, positions
that need the head, answering from notes, what was lost and gained, the scale of an MXFP4 block.
"""

import math

import numpy as np
import torch
from torch import Tensor

from lab_utils.checking.checks import Exercise, close, draw_until, exact, one_of, whole

LAB = "09_real_model"


# --------------------------------------------------------------------------------- count_parameters
def count_parameters(
    vocab: int, width: int, layers: int, heads: int, kv_heads: int, inner: int
) -> int:
    head_dim = width // heads
    attention = 2 * width * width + 2 * width * kv_heads * head_dim
    return vocab * width + layers * (attention + 3 * width * inner + 2 * width) + width


def counted(
    embeddings=lambda v, w: v * w,
    kv=lambda w, h, k: k * (w // h),
    matrices: int = 3,
    norms=lambda w, n: 2 * w * n + w,
    projections: int = 2,
    layers=lambda n: n,
):
    """A wrong count_parameters: one part of the sum replaced."""

    def answer(vocab, width, n_layers, heads, kv_heads, inner):
        attention = projections * width * width + 2 * width * kv(width, heads, kv_heads)
        linear = attention + matrices * width * inner
        return embeddings(vocab, width) + layers(n_layers) * linear + norms(width, n_layers)

    return answer


def llama_sizes(rng: np.random.Generator) -> tuple[int, ...]:
    """Sizes of a small Llama; several heads share a key-value head."""
    kv_heads, group = int(rng.integers(2, 5)), int(rng.integers(2, 5))
    heads = kv_heads * group
    width = heads * int(rng.choice([8, 16, 32]))
    return (
        int(rng.integers(500, 5000)),
        width,
        int(rng.integers(2, 9)),
        heads,
        kv_heads,
        int(rng.integers(2, 6)) * width // 2,
    )


COUNT_PARAMETERS = Exercise(
    name="count_parameters",
    lab=LAB,
    reference=count_parameters,
    cases=lambda rng: [
        (10, 4, 1, 2, 1, 8),
        (49152, 576, 30, 9, 3, 1536),
        llama_sizes(rng),
        llama_sizes(rng),
        (700, 24, 3, 3, 3, 50),
        (12, 6, 2, 1, 1, 7),
    ],
    domain=lambda rng: (
        whole(rng, 2, 60_000),
        (group := whole(rng, 1, 6)) * (kv_heads := whole(rng, 1, 6)) * 2 * whole(rng, 1, 32),
        whole(rng, 1, 40),
        group * kv_heads,
        kv_heads,
        whole(rng, 1, 5000),
    ),
    corners={
        "every head has its own keys": lambda v, w, n, heads, kv_heads, inner: (
            kv_heads == heads > 1
        ),
        "one head of keys for all": lambda v, w, n, heads, kv_heads, inner: kv_heads == 1 < heads,
        "one head": lambda v, w, n, heads, kv_heads, inner: heads == 1,
        "one layer": lambda v, w, n, *rest: n == 1,
        "an odd width of the MLP": lambda v, w, n, heads, kv_heads, inner: inner % 2 == 1,
    },
    same=exact,
    wrong={
        "the head is counted beside the embeddings: tied, they are one tensor": counted(
            embeddings=lambda v, w: 2 * v * w
        ),
        "the embeddings are missing": counted(embeddings=lambda v, w: 0),
        "k and v are counted as wide as q: grouped queries share kv_heads of them": counted(
            kv=lambda w, h, k: w
        ),
        "k and v are counted with one head: there are kv_heads": counted(kv=lambda w, h, k: w // h),
        "k and v are kv_heads wide: each head is width / heads wide": counted(kv=lambda w, h, k: k),
        "the MLP has three matrices: gate, up and down": counted(matrices=2),
        "the output projection is missing: q and o are both width x width": counted(projections=1),
        "the norms are missing: two vectors a layer and one at the end": counted(
            norms=lambda w, n: 0
        ),
        "the last norm is missing": counted(norms=lambda w, n: 2 * w * n),
    },
    hints=(
        "The embeddings have vocab * width parameters and serve as the head too: count them once.",
        "q and o are (width, width); k and v are (kv_heads * head_dim, width), with head_dim = "
        "width // heads. The MLP has gate, up (inner, width) and down (width, inner).",
        "Two norms of width in each layer, one after the last.",
    ),
)


# --------------------------------------------------------------------------------------- needs_head
def needs_head(labels: Tensor) -> Tensor:
    needed = torch.zeros_like(labels, dtype=torch.bool)
    needed[:, :-1] = labels[:, 1:] != -100
    return needed


def rows_of_labels(rng: np.random.Generator, rows: int, length: int) -> tuple[Tensor]:
    """Questions masked, answers labelled, padding masked; one row labelled to its very end."""
    labels = torch.full((rows, length), -100)
    for i in range(rows):
        start = int(rng.integers(1, length - 3))
        end = length if i == 0 else int(rng.integers(start + 1, length))
        labels[i, start:end] = torch.tensor(rng.integers(1, 2000, end - start))
    return (labels,)


def random_labels(rng: np.random.Generator) -> tuple[Tensor]:
    shape = whole(rng, 1, 5), whole(rng, 1, 9)
    labels = torch.tensor(rng.integers(0, 2000, shape))
    return (torch.where(torch.from_numpy(rng.random(shape) < rng.random()), -100, labels),)


NEEDS_HEAD = Exercise(
    name="needs_head",
    lab=LAB,
    reference=needs_head,
    cases=lambda rng: [
        (torch.tensor([[-100, -100, 7, 8, -100]]),),
        rows_of_labels(rng, 2, whole(rng, 6, 9)),
        rows_of_labels(rng, 4, whole(rng, 8, 15)),
        (torch.tensor([[0, 5, 6], [-100, 0, -100]]),),  # the first label predicts nothing; 0 is one
        (torch.full((3, 3), -100),),
        (torch.tensor([[5], [-100]]),),
        (torch.tensor([[-100, 99, -100, 101]]),),
    ],
    domain=random_labels,
    corners={
        "a label at the first place": lambda labels: bool((labels[:, 0] != -100).any()),
        "a label at the last place": lambda labels: bool((labels[:, -1] != -100).any()),
        "the label 0": lambda labels: bool((labels == 0).any()),
        "one row": lambda labels: len(labels) == 1,
        "rows of one": lambda labels: labels.shape[1] == 1,
        "no label": lambda labels: bool((labels == -100).all()),
        "a gap between two labels": lambda labels: labels.tolist() == [[-100, 99, -100, 101]],
    },
    same=exact,
    wrong={
        "the labelled positions: position t predicts the label of t + 1": lambda labels: (
            labels != -100
        ),
        "shifted the wrong way: the position before a label predicts it": lambda labels: torch.cat(
            [torch.zeros_like(labels[:, :1], dtype=torch.bool), labels[:, :-1] != -100], 1
        ),
        "rolled around: the last position predicts nothing in its row": lambda labels: (
            torch.roll(labels, -1, dims=1) != -100
        ),
        "every position: the prompt has no labels": lambda labels: torch.ones_like(
            labels, dtype=torch.bool
        ),
        "the masked positions instead of the labelled ones": lambda labels: ~needs_head(labels),
        "cut by one: a mask as long as the row is asked for, its last place False": lambda labels: (
            labels[:, 1:] != -100
        ),
        "the label 0 is left out: it is a token, only -100 is none": lambda labels: needs_head(
            torch.where(labels == 0, -100, labels)
        ),
        "numbers, where True and False are asked for": lambda labels: needs_head(labels).long(),
    },
    hints=(
        "A model's output at position t is its guess of the token at t + 1.",
        "So position t needs the head where labels[:, t + 1] is not -100.",
        "The last position of a row predicts nothing that has a label: False.",
    ),
)


# -------------------------------------------------------------------------------- answer_from_notes
def answer_from_notes(notes: list[str], cheese: str, values: list[str]) -> int:
    for note in notes:
        if cheese in note:
            for i, value in enumerate(values):
                if value in note:
                    return i
    return -1


def answered(pick, unknown: int = -1):
    """A wrong answer_from_notes: `pick(notes, cheese, values)` gives the places found, in order."""

    def answer(notes: list[str], cheese: str, values: list[str]) -> int:
        found = list(pick(notes, cheese, values))
        return found[0] if found else unknown

    return answer


def places(notes: list[str], values: list[str]) -> list[int]:
    """Where in `values` each value stands that a note holds, note by note."""
    return [i for note in notes for i, value in enumerate(values) if value in note]


CHEESES = ("Feta", "Brie", "Gouda", "Halloumi", "Manchego", "Gruyère")
VALUES = ("Greece", "France", "Cyprus", "Spain", "Holland")


def notes_about(rng: np.random.Generator) -> tuple[list[str], str, list[str]]:
    """Notes on three cheeses: mild ones, and where some of them come from; then a cheese to ask."""
    cheeses, values = list(map(str, rng.permutation(CHEESES)[:3])), list(rng.permutation(VALUES))
    notes = [f"{cheese} is mild" for cheese in cheeses]
    notes += [f"{cheese} comes from {value}" for cheese, value in zip(cheeses, values)][
        : rng.integers(4)
    ]
    notes = [str(note) for note in rng.permutation(notes)]
    return notes, cheeses[0], [str(value) for value in rng.permutation(VALUES)]


def notes_with_answer(rng: np.random.Generator) -> tuple[list[str], str, list[str]]:
    """Another cheese's value first, then a mild note, then the answer, which is no first value."""
    one, other = map(str, rng.permutation(CHEESES)[:2])
    right, wrong, third = map(str, rng.permutation(VALUES)[:3])
    notes = [f"{other} comes from {wrong}", f"{one} is mild", f"{one} comes from {right}"]
    return notes, one, [wrong, third, right]


ANSWER_FROM_NOTES = Exercise(
    name="answer_from_notes",
    lab=LAB,
    reference=answer_from_notes,
    cases=lambda rng: [
        (
            ["Brie comes from France", "Feta comes from Greece", "Feta is salty"],
            "Feta",
            ["France", "Greece"],
        ),
        notes_with_answer(rng),
        notes_with_answer(rng),
        (["Brie comes from France", "Feta is salty"], "Feta", ["France", "Greece"]),
        (["Brie comes from France"], "Feta", ["France", "Greece"]),
        (["Feta comes from Greece", "Feta was once sold in Spain"], "Feta", ["Spain", "Greece"]),
        (["Feta was once sold in Spain", "Feta comes from Greece"], "Feta", ["Spain", "Greece"]),
        notes_about(rng),
        ([], "Feta", ["Spain", "Greece"]),
        (["From Greece comes Feta"], "Feta", ["Greece", "Spain", "France"]),
    ],
    domain=notes_about,
    corners={
        "no notes": lambda notes, cheese, values: not notes,
        "silent notes": lambda notes, cheese, values: (
            notes != [] and answer_from_notes(notes, cheese, values) == -1
        ),
        "another cheese's value": lambda notes, cheese, values: (
            places(notes, values) != [] and answer_from_notes(notes, cheese, values) == -1
        ),
        "the first value": lambda notes, cheese, values: (
            answer_from_notes(notes, cheese, values) == 0
        ),
        "the last value": lambda notes, cheese, values: (
            answer_from_notes(notes, cheese, values) == len(values) - 1
        ),
        "a silent note of the cheese first": lambda notes, cheese, values: any(
            cheese in note and not places([note], values) for note in notes[:-1]
        ),
        "two notes with a value": lambda notes, cheese, values: (
            len(places([note for note in notes if cheese in note], values)) == 2
        ),
    },
    same=exact,
    wrong={
        "a value from another cheese's note: the note must name the cheese": answered(
            lambda notes, cheese, values: places(notes, values)
        ),
        "made up: where the notes are silent, the answer is -1": answered(
            lambda notes, cheese, values: places([n for n in notes if cheese in n], values), 0
        ),
        "only the first note is read": answered(
            lambda notes, cheese, values: places([n for n in notes[:1] if cheese in n], values)
        ),
        "only the first note about the cheese is read": answered(
            lambda notes, cheese, values: places([n for n in notes if cheese in n][:1], values)
        ),
        "the last value found: the first note that holds one decides": answered(
            lambda notes, cheese, values: places([n for n in notes if cheese in n], values)[::-1]
        ),
        "the order of the values decides: it is the first note that holds one": answered(
            lambda notes, cheese, values: sorted(places([n for n in notes if cheese in n], values))
        ),
        "the notes that do not name the cheese are read": answered(
            lambda notes, cheese, values: places([n for n in notes if cheese not in n], values)
        ),
        "the place of the note: that of the value is asked for": lambda notes, cheese, values: next(
            (
                i
                for i, note in enumerate(notes)
                if cheese in note and any(value in note for value in values)
            ),
            -1,
        ),
        "counted from 1: the place in the list counts from 0": lambda notes, cheese, values: (
            answer_from_notes(notes, cheese, values) + 1
        ),
    },
    hints=(
        "Go through the notes in order, and skip those that do not name the cheese.",
        "for i, value in enumerate(values): the first value that stands in the note is the answer.",
        "If the loops end without a value, return -1: I do not know.",
    ),
)


# --------------------------------------------------------------------------------- lost_gained_kept
def lost_gained_kept(before: list[bool], after: list[bool]) -> tuple[int, int, float]:
    pairs = list(zip(before, after))
    lost, gained = sum(b and not a for b, a in pairs), sum(a and not b for b, a in pairs)
    return lost, gained, sum(after) / sum(before)


def marks(rng: np.random.Generator, n: int) -> tuple[list[bool], list[bool]]:
    """Right or wrong before and after, with some lost, more of them than gained."""
    before = [True] * (n - 3) + [False] * 3
    after = [True] * (n - 8) + [False] * 6 + [True] * 2
    order = rng.permutation(n)
    return [before[i] for i in order], [after[i] for i in order]


def random_marks(rng: np.random.Generator) -> tuple[list[bool], list[bool]]:
    n = whole(rng, 1, 30)
    return (rng.random(n) < rng.random()).tolist(), (rng.random(n) < rng.random()).tolist()


def changed(replace):
    """A wrong lost_gained_kept: some of its three numbers replaced."""
    return lambda b, a: replace(*lost_gained_kept(b, a), b, a)


LOST_GAINED_KEPT = Exercise(
    name="lost_gained_kept",
    lab=LAB,
    reference=lost_gained_kept,
    cases=lambda rng: [
        ([True, True, True, False, False], [True, False, False, True, False]),
        marks(rng, whole(rng, 12, 19)),
        marks(rng, whole(rng, 21, 29)),
        ([True] * 4, [True] * 4),
        ([True, False, True], [True, True, True]),
        ([True, True], [False, False]),
        ([True, True, False, False], [True, False, False, False]),
        ([False, True], [True, True]),
        ([True], [False]),
    ],
    domain=lambda rng: draw_until(lambda before, after: any(before), lambda: random_marks(rng)),
    corners={
        "nothing has changed": lambda before, after: before == after,
        "all are lost": lambda before, after: all(before) and not any(after),
        "more lost than gained": lambda before, after: sum(before) > sum(after) > 0,
        "more gained than lost": lambda before, after: sum(after) > sum(before) > 0,
        "one question": lambda before, after: len(before) == 1,
    },
    same=close(rtol=1e-6, atol=0),
    wrong={
        "the difference of the sums: what is lost and gained does not cancel out": changed(
            lambda lost, gained, kept, b, a: (max(lost - gained, 0), max(gained - lost, 0), kept)
        ),
        "gained and lost are exchanged: lost comes first": changed(
            lambda lost, gained, kept, b, a: (gained, lost, kept)
        ),
        "how many were right before and after, for lost and gained": changed(
            lambda lost, gained, kept, b, a: (sum(b), sum(a), kept)
        ),
        "what was wrong both times is counted as lost": changed(
            lambda lost, gained, kept, b, a: (len(a) - sum(a), gained, kept)
        ),
        "what stayed right is counted as gained": changed(
            lambda lost, gained, kept, b, a: (lost, sum(a), kept)
        ),
        "nothing is counted as gained": changed(lambda lost, gained, kept, b, a: (lost, 0, kept)),
        "kept is right after / right before: what was gained counts too": changed(
            lambda lost, gained, kept, b, a: (lost, gained, (sum(b) - lost) / sum(b))
        ),
        "kept is a share of what was right before, not of all questions": changed(
            lambda lost, gained, kept, b, a: (lost, gained, sum(a) / len(a))
        ),
        "kept upside down": changed(
            lambda lost, gained, kept, b, a: (lost, gained, sum(b) / max(sum(a), 1))
        ),
        "kept in percent: a share is asked for": changed(
            lambda lost, gained, kept, b, a: (lost, gained, 100 * kept)
        ),
    },
    hints=(
        "Go through both lists together: zip(before, after).",
        "Lost: right before and wrong after. Gained: wrong before and right after.",
        "sum() counts True as 1; kept is sum(after) / sum(before).",
    ),
)


# -------------------------------------------------------------------------------------- mxfp4_scale
def mxfp4_scale(block: Tensor) -> float:
    return 2.0 ** (math.floor(math.log2(block.abs().max().item())) - 2)


def scaled_by(rule):
    """A wrong mxfp4_scale: a rule of the block's absmax."""
    return lambda block: float(rule(block.abs().max().item()))


def mx_block(rng: np.random.Generator) -> tuple[Tensor]:
    """32 values whose largest magnitude is negative, 4.5 to 5.5 times a power of 2."""
    absmax = float(rng.uniform(4.5, 5.5)) * 2.0 ** int(rng.integers(-6, 4))
    values = rng.uniform(-0.5, 0.5, 32) * absmax
    values[int(rng.integers(32))] = -absmax
    return (torch.tensor(values),)


def random_block(rng: np.random.Generator) -> tuple[Tensor]:
    """Values whose largest magnitude is any multiple of a power of two, or just that."""
    absmax = one_of(rng, 1.0, 1.02, 1.4, 1.5, 1.75, 1.98) * 2.0 ** int(rng.integers(-9, 9))
    values = rng.uniform(-0.9, 0.9, whole(rng, 1, 32)) * absmax
    values[0] = one_of(rng, -1, 1) * absmax
    return (torch.tensor(values),)


MXFP4_SCALE = Exercise(
    name="mxfp4_scale",
    lab=LAB,
    reference=mxfp4_scale,
    cases=lambda rng: [
        (torch.tensor([1.0, -20.0, 3.0], dtype=torch.float64),),
        mx_block(rng),
        mx_block(rng),
        (torch.tensor([7.0, -0.5], dtype=torch.float64),),
        (torch.tensor([0.3, 8.0], dtype=torch.float64),),
        (torch.tensor([-3.97, 1.0], dtype=torch.float64),),
        (torch.tensor([0.01, -0.05, 0.051], dtype=torch.float64),),
        (torch.tensor([1.4], dtype=torch.float64),),
    ],
    domain=random_block,
    corners={
        "a power of two": lambda block: math.log2(block.abs().max()) % 1 == 0,
        "just below a power of two": lambda block: math.log2(block.abs().max()) % 1 > 0.95,
        "the largest is negative": lambda block: -block.min() > block.max() > 0,
        "less than 1": lambda block: block.abs().max() < 1,
        "one value": lambda block: len(block) == 1,
    },
    same=close(rtol=1e-6, atol=0),
    wrong={
        "absmax / 6 is no power of two": scaled_by(lambda m: m / 6),
        "rounded up: the power of two not above absmax is asked for": scaled_by(
            lambda m: 2.0 ** (math.ceil(math.log2(m)) - 2)
        ),
        "cut off towards 0: below 1 the logarithm is negative, take the floor": scaled_by(
            lambda m: 2.0 ** (int(math.log2(m)) - 2)
        ),
        "the exponent of 6 is missing: 6 = 1.5 * 2**2, so take 2 off": scaled_by(
            lambda m: 2.0 ** math.floor(math.log2(m))
        ),
        "the exponent itself: the scale is 2 to that power": scaled_by(
            lambda m: math.floor(math.log2(m)) - 2
        ),
        "absmax as it is": scaled_by(lambda m: m),
        "the largest value, not the largest magnitude": lambda block: mxfp4_scale(
            block.clamp(min=1e-30).max()[None]
        ),
        "the power of two above absmax / 6: the rule is another": (
            scaled_by(lambda m: 2.0 ** math.ceil(math.log2(m / 6)))
        ),
        "the natural logarithm: powers of two need log2": scaled_by(
            lambda m: 2.0 ** (math.floor(math.log(m)) - 2)
        ),
    },
    hints=(
        "block.abs().max().item() is absmax.",
        "floor(log2(absmax)) is the exponent of the largest power of two not above it.",
        "E2M1's largest value is 6 = 1.5 * 2**2: the scale is 2.0 ** (that exponent - 2).",
    ),
)


EXERCISES = [COUNT_PARAMETERS, NEEDS_HEAD, ANSWER_FROM_NOTES, LOST_GAINED_KEPT, MXFP4_SCALE]
