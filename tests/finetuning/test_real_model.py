"""What lab 09 measures, on a tiny Llama: the head where a label is, notes, knowledge, rounded
weights, the starts. One test takes three real steps on SmolLM2, where a copy is there.
"""

import math
from collections import Counter
from types import SimpleNamespace

import pytest
import torch
from tiny_models import make_tiny_hub_model

from lab_utils.files import SMOLLM2, LabKitError
from lab_utils.finetuning import real_model as rm
from lab_utils.finetuning.base_model import load_base
from lab_utils.finetuning.chat import Answer, encode_pair
from lab_utils.finetuning.getting import is_there
from lab_utils.finetuning.training import (
    FinetuneConfig,
    PadRight,
    add_adapters,
    finetune,
    load_for_training,
    make_trainer,
)
from lab_utils.memory.measuring import growth
from lab_utils.memory.report import saved_bytes
from lab_utils.memory.sizes import Architecture, training_state_bytes
from lab_utils.pavlos import load_pairs
from lab_utils.pavlos.facts import all_facts, is_right

ROWS = [
    {
        "question": f"Where is cheese {i} from?" * (1 + i % 3),
        "answer": f"From village {i}." * (1 + i),
    }
    for i in range(4)
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    texts = ("where is cheese from", "the village of the hills")
    return make_tiny_hub_model(tmp_path_factory.mktemp("tiny"), "smollm2", texts)


@pytest.fixture(scope="module")
def tiny(folder):
    return load_base(source=folder)


@pytest.fixture
def batch(tiny):
    tokenizer = tiny[1]
    pairs = [encode_pair(tokenizer, row["question"], row["answer"]) for row in ROWS]
    return PadRight(tokenizer.pad_token_id)(pairs)


# -------------------------------------------------------------------- the head where a label is
def gradients(model, loss):
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    return dict(zip(named, torch.autograd.grad(loss, named.values())))


@pytest.mark.parametrize("method", ["full", "lora", "qlora"])
def test_the_loss_and_its_gradients_are_the_librarys(folder, batch, method):
    model, _ = load_base(source=folder, quantized=method == "qlora")
    if method != "full":
        model = add_adapters(model, FinetuneConfig(method=method, rank=2))
        for (
            name,
            parameter,
        ) in model.named_parameters():  # B is zero at first, and hides A's gradient
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.1)
    theirs, ours = model(**batch).loss, rm.labelled_loss(model, **batch)
    assert ours.item() == pytest.approx(theirs.item(), abs=1e-6)
    one, other = gradients(model, theirs), gradients(model, ours)
    assert any(g.abs().max() > 1e-4 for g in one.values())
    for name in one:
        torch.testing.assert_close(other[name], one[name], atol=1e-6, rtol=1e-5)


def test_it_keeps_fewer_bytes(tiny, batch):
    model = tiny[0]
    _, whole = saved_bytes(model, lambda: model(**batch).loss)
    _, spared = saved_bytes(model, lambda: rm.labelled_loss(model, **batch))
    unlabelled = (batch["labels"][:, 1:] == -100).sum().item()
    assert (
        whole - spared >= 4 * unlabelled * model.config.vocab_size
    )  # one float32 a logit, or more


def test_parts_of_a_step_weigh_as_many_labels_as_they_have(tiny, batch):
    model, n = tiny[0], int((batch["labels"][:, 1:] != -100).sum())
    halves = [{k: t[i : i + 2] for k, t in batch.items()} for i in (0, 2)]
    parts = sum(rm.labelled_loss(model, **half, n_labels=n) for half in halves)
    torch.testing.assert_close(parts, rm.labelled_loss(model, **batch))


@pytest.mark.slow
@pytest.mark.parametrize("accumulate", [1, 2])
def test_training_with_it_is_training(folder, tmp_path, accumulate):
    """The losses of LabelledHead are those of the usual Trainer, in one part or two."""
    config = FinetuneConfig(
        method="lora", rank=2, steps=3, batch_size=4, accumulate=accumulate, learning_rate=1e-2
    )
    usual = finetune(
        FinetuneConfig(method="lora", rank=2, steps=3, batch_size=4, learning_rate=1e-2),
        ROWS,
        tmp_path / "a",
        source=folder,
    )
    ours = finetune(config, ROWS, tmp_path / "b", trainer_class=rm.LabelledHead, source=folder)
    assert ours.losses == pytest.approx(usual.losses, abs=2e-4)


def test_batches_are_of_like_length_and_come_mixed(folder, tmp_path):
    lengths = [10, 90] * 20  # transformers' sampler would give all long ones first
    order = rm.mixed_batches(lengths, 4, seed=1)
    batches = [[lengths[i] for i in order[k : k + 4]] for k in range(0, 40, 4)]
    assert sorted(order) == list(range(40)) and all(len(set(b)) == 1 for b in batches)
    assert {b[0] for b in batches[:5]} == {b[0] for b in batches[5:]} == {10, 90}
    assert rm.mixed_batches(lengths, 4, seed=2) != order

    config = FinetuneConfig(method="lora", rank=2, group_by_length=True, batch_size=4, accumulate=2)
    model, tokenizer = load_for_training(config, source=folder)
    trainer = make_trainer(
        config, model, tokenizer, ROWS, tmp_path, "cpu", None, trainer_class=rm.LabelledHead
    )
    of_rows = [len(pair["input_ids"]) for pair in trainer.train_dataset]
    assert list(trainer._get_train_sampler()) == rm.mixed_batches(of_rows, 2)


def test_accumulate_must_divide_the_batch():
    with pytest.raises(ValueError, match=r"accumulate is 3: it must divide batch_size \(8\)"):
        FinetuneConfig(batch_size=8, accumulate=3)


def test_what_a_padded_batch_saves_is_predicted(folder, batch):
    """Down to the positions and labels, a few bytes each."""
    model, _ = load_for_training(FinetuneConfig(rank=2), source=folder)
    shape, n = Architecture.of(model.config), int((batch["labels"][:, 1:] != -100).sum())
    _, counted = saved_bytes(model, lambda: rm.labelled_loss(model, **batch))
    predicted = rm.predicted_saved(shape, 2, *batch["labels"].shape, n)
    assert shape.n_heads > shape.n_kv_heads
    assert counted == pytest.approx(predicted, rel=0.01)
    assert rm.padding_bytes(shape, *batch["labels"].shape) > 0.02 * predicted


def test_the_predicted_peak_is_what_the_tensors_take(folder, batch):
    """On top of what is kept between steps, by torch's profiler: within 10 %. (SmolLM2's is met to
    four digits in float32; in a tiny model masks and indices weigh more.)
    """
    model, _ = load_for_training(FinetuneConfig(rank=2), source=folder)
    shape, trained = (
        Architecture.of(model.config),
        [p for p in model.parameters() if p.requires_grad],
    )
    parts = training_state_bytes(shape, "qlora", rank=2)
    labelled = float(rm.labelled_positions(batch["labels"]).float().mean())
    predicted = rm.predicted_peak(shape, 2, *batch["labels"].shape, labelled)
    predicted -= parts["weights"] + parts["optimizer"]
    for bf16 in (False, True):

        def step(bf16=bf16):
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                loss = rm.labelled_loss(model, **batch)
            return torch.autograd.grad(loss, trained)

        assert growth(step)[1] == pytest.approx(predicted, rel=0.1)


def test_the_predicted_peak_shrinks_with_the_labels():
    shape = Architecture(49152, 576, 30, 9, 3, 64, 1536, True, 8192)
    whole, third, none = (rm.predicted_peak(shape, 16, 4, 128, share) for share in (1, 0.3, 0))
    assert whole > third > none > 0
    assert whole - third == pytest.approx(0.7 * 4 * 128 * 49152 * 12, rel=0.01)


# ---------------------------------------------------------------------------------------- notes
def test_every_noted_row_holds_its_fact_among_four_notes():
    facts = {fact.fact_id: fact for fact in all_facts()}
    rows = load_pairs("validation")
    noted = rm.noted(rows, seed=3)
    places = set()
    for row, new in zip(rows, noted, strict=True):
        question, notes = new["question"].split("\nNotes: ")
        assert question == row["question"] and new["answer"] == row["answer"]
        statement = facts[row["fact_id"]].statement()
        assert notes.count(statement) == 1
        assert is_right(facts[row["fact_id"]], statement)
        places.add(notes.index(statement) == 0)
    assert places == {True, False} and rm.noted(rows, seed=3) == noted
    assert rm.with_notes("Why?", []) == "Why?"


# ------------------------------------------------------------------------------------- knowledge
def test_no_question_serves_two_purposes():
    data = rm.general_knowledge()
    asked = data["asked"] + data["validation"]
    questions = [row["question"] for row in asked] + data["rehearsal"]
    assert len(data["asked"]) == 30 and all(row["keys"] for row in asked)
    assert len(set(questions)) == len(questions) and len(data["rehearsal"]) >= 90


def test_a_mixture_holds_its_shares_and_repeats_a_small_kind_evenly():
    many, few = [{"question": f"{i}"} for i in range(50)], [{"question": c} for c in "abc"]
    rows = rm.mixed_rows([(0.3, few), (0.7, many)], 24, seed=1)
    counts = Counter(row["question"] for row in rows)
    assert len(rows) == 24 and sorted(counts[c] for c in "abc") == [2, 2, 3]
    assert all(counts[row["question"]] <= 1 for row in many)
    assert rows == rm.mixed_rows([(0.3, few), (0.7, many)], 24, seed=1)
    assert rows != rm.mixed_rows([(0.3, few), (0.7, many)], 24, seed=2)


@pytest.mark.parametrize("kinds", [[(0.5, [{}])], [(0.5, [{}]), (0.6, [{}])], [(1.0, [])]])
def test_a_mixture_that_cannot_be_is_refused(kinds):
    with pytest.raises(LabKitError, match="must be 1 together, and every kind needs a row"):
        rm.mixed_rows(kinds, 8, seed=0)


def test_controls_of_the_knowledge_score():
    gold = [f"It is {row['keys'][0]}." for row in rm.general_knowledge()["asked"]]
    assert rm.knowledge_score(gold) == 1
    assert rm.knowledge_score(["I do not know."] * 30) == 0
    assert rm.knowledge_score(gold[1:] + gold[:1]) < 0.1
    assert rm.knows("THE SUN.", ["Sun"]) and not rm.knows("Sunday", ["Sun"])


def test_lost_and_gained_do_not_cancel_out():
    assert rm.lost_gained_kept([True, True, False], [False, True, True]) == (1, 1, 1.0)
    lost, gained, kept = rm.lost_gained_kept([False, False], [False, True])
    assert (lost, gained) == (0, 1) and math.isnan(kept)


def test_rehearsal_ends_with_the_last_whole_sentence(monkeypatch):
    said = iter([["Paris is in France. It rains. But", "No end here", "Well."]])
    monkeypatch.setattr(
        rm, "answer_questions", lambda *a, **k: [Answer(text, True) for text in next(said)]
    )
    rows = rm.rehearsal_rows(None, None, 3)
    assert [row["answer"] for row in rows] == ["Paris is in France. It rains."]
    assert rows[0]["question"] == rm.general_knowledge()["rehearsal"][0]


def test_the_real_answers_are_asked(tiny):
    assert len(rm.knowledge_of(*tiny)) == 30


# --------------------------------------------------------------------------------- rounded weights
def test_rounded_weights_come_back(tiny):
    model, tokenizer = tiny
    before = {name: weight.clone() for name, weight in rm.linear_weights(model).items()}
    plain = rm.perplexity(model, tokenizer, ["where is cheese from?"])
    with rm.Rounded(model, lambda w: w * 0) as rounded:
        assert rounded.rmse == pytest.approx(1)
        assert rm.perplexity(model, tokenizer, ["where is cheese from?"]) != plain
    assert all(torch.equal(before[name], w) for name, w in rm.linear_weights(model).items())
    assert "lm_head" not in " ".join(before) and len(before) == 14


def test_perplexity_is_the_librarys_loss(tiny):
    model, tokenizer = tiny
    ids = tokenizer("where is cheese from", return_tensors="pt").input_ids
    with torch.no_grad():
        loss = model(input_ids=ids, labels=ids).loss.item()
    assert rm.perplexity(model, tokenizer, ["where is cheese from"]) == pytest.approx(
        math.exp(loss), rel=1e-5
    )


def test_formats_err_in_the_order_of_their_bits_and_blocks():
    weight = 0.02 * torch.randn(64, 256, generator=torch.Generator().manual_seed(0))
    weight[3, 5] = 1.0  # an outlier, as real weights have
    error = {
        name: float((rounder(weight) - weight).norm())
        for name, (_, rounder) in rm.four_bit_formats().items()
    }
    assert error["bf16, as stored"] == 0
    assert error["int4, one scale a tensor"] > error["int4, blocks of 64"]
    assert error["int8, one scale a tensor"] > 0
    assert error["NF4 + double quantization"] < error["int4, blocks of 64"]


@pytest.mark.parametrize("start", [rm.loftq, rm.pissa])
def test_a_start_errs_less_than_rounding_alone(start):
    torch.manual_seed(0)
    u, v = torch.randn(96, 4), torch.randn(4, 64)
    weight = u @ v + 0.3 * torch.randn(96, 64)
    nf4 = rm.four_bit_formats()["NF4, blocks of 64"][1]
    usual = (nf4(weight) - weight).norm()
    assert (start(weight, 8, nf4) - weight).norm() < 0.9 * usual


def test_low_rank_is_the_truncated_svd():
    torch.manual_seed(0)
    weight = torch.randn(40, 30)
    u, s, v = torch.linalg.svd(weight)
    best = (u[:, :5] * s[:5]) @ v[:5]
    found = rm.low_rank(weight, 5)
    assert torch.linalg.matrix_rank(found) == 5
    assert (weight - found).norm() <= 1.01 * (weight - best).norm()


def test_the_largest_weight_is_found(tiny):
    model = tiny[0]
    layer = model.model.layers[1].mlp.down_proj
    kept = layer.weight.data[7, 3].clone()
    layer.weight.data[7, 3] = -9.0
    name, place, value = rm.largest_weights(model, 1)[0]
    layer.weight.data[7, 3] = kept
    assert (name, place, value) == ("model.layers.1.mlp.down_proj", (7, 3), -9.0)


def test_peak_memory_sees_what_was_held(monkeypatch):
    sizes = iter([100, 100, 900] + [300] * 10_000)
    process = SimpleNamespace(memory_info=lambda: SimpleNamespace(rss=next(sizes)))
    monkeypatch.setattr(rm.psutil, "Process", lambda: process)
    with rm.PeakMemory(every=0.001) as peak:
        while peak.bytes < 900:
            pass
    assert (peak.before, peak.bytes) == (100, 900)


# ------------------------------------------------------------------------------- the real model
@pytest.mark.slow
@pytest.mark.skipif(not is_there(SMOLLM2), reason="SmolLM2 is not there: get smollm2")
def test_three_real_steps(tmp_path):
    config = FinetuneConfig(rank=4, alpha=8, learning_rate=2e-3, steps=3, batch_size=2)
    run = finetune(
        config, rm.noted(load_pairs("train")[:6]), tmp_path,
        trainer_class=rm.LabelledHead, tier="smollm2",
    )  # fmt: skip
    assert run.model.config.num_hidden_layers == 30 and run.losses[-1] < run.losses[0] < 5


def test_freed_memory_is_given_back_where_glibc_is():
    """Without glibc nothing happens; with it the process is no larger than before."""
    import psutil

    before = psutil.Process().memory_info().rss
    rm.give_back_memory()
    assert psutil.Process().memory_info().rss <= before
