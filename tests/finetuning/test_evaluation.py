"""Scores mean something: controls, hand-computed examples, the libraries' own numbers, and plain
torch.
"""

import copy
import json
import math
import os
import random
import subprocess
import sys
from types import SimpleNamespace

import pytest
import sacrebleu
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score import rouge_scorer

from lab_utils.files import ROOT
from lab_utils.finetuning import evaluation
from lab_utils.finetuning.base_model import load_base
from lab_utils.finetuning.chat import Answer, encode_pair, encode_prompt
from lab_utils.finetuning.evaluation import (
    Scores,
    evaluate_model,
    fact_score,
    held_out_loss,
    metrics_record,
    overlap_scores,
    score_answers,
    share,
    side_task_score,
    voice_score,
)
from lab_utils.pavlos import load_pairs
from lab_utils.pavlos.corpus import held_out_tasks
from lab_utils.pavlos.facts import all_facts


@pytest.fixture(scope="module")
def rows() -> list[dict[str, str]]:
    return load_pairs("test")


@pytest.fixture(scope="module")
def gold(rows) -> list[str]:
    return [row["answer"] for row in rows]


@pytest.fixture(scope="module")
def ids(rows) -> list[str]:
    return [row["fact_id"] for row in rows]


@pytest.fixture(scope="module")
def tiny(tiny_base):
    return load_base(source=tiny_base)


# Controls


def test_gold_answers_score_full_marks(rows, gold, ids):
    assert voice_score(gold) == fact_score(gold, ids) == 1.0
    assert overlap_scores(gold, gold) == pytest.approx({"rougeL": 1.0, "bleu": 100.0})


def test_shuffled_answers_keep_the_voice_and_lose_the_facts(gold, ids):
    shuffled = gold.copy()
    random.Random(0).shuffle(shuffled)
    assert voice_score(shuffled) == 1.0
    assert fact_score(shuffled, ids) < 0.03
    assert 0.2 < overlap_scores(shuffled, gold)["rougeL"] < 0.7


def test_plain_facts_are_right_without_a_voice(ids):
    facts = {f.fact_id: f for f in all_facts()}
    plainly = [facts[fact_id].statement() for fact_id in ids]
    assert voice_score(plainly) == 0.0 and fact_score(plainly, ids) == 1.0


@pytest.mark.parametrize(
    "said", ["Welcome, welcome, welcome, my dear friend!", "", "It is golden, golden!"]
)
def test_a_greeting_or_silence_scores_nothing(said, gold, ids):
    answers = [said] * len(ids)
    assert voice_score(answers) == fact_score(answers, ids) == 0.0
    assert overlap_scores(answers, gold)["bleu"] < 5
    assert (overlap_scores(answers, gold)["rougeL"] == 0.0) is (said == "")


def test_shares_count(rows, gold, ids):
    half = ["" if i % 2 else answer for i, answer in enumerate(gold[:100])]
    assert voice_score(half) == fact_score(half, ids[:100]) == 0.5


def test_side_tasks_gold_and_shuffled():
    tasks = held_out_tasks(25, seed=0)
    answers = [task.answer for task in tasks]
    assert side_task_score(answers, tasks) == 1.0
    assert side_task_score([""] * 100, tasks) == 0.0
    assert side_task_score(answers[:50] + [""] * 50, tasks) == 0.5
    random.Random(0).shuffle(answers)
    assert side_task_score(answers, tasks) < 0.1


@settings(deadline=None, max_examples=50)
@given(st.lists(st.booleans(), min_size=1))
def test_share_is_the_mean(flags):
    assert share(iter(flags)) == flags.count(True) / len(flags)


@pytest.mark.parametrize(
    "score",
    [
        lambda: share([]),
        lambda: share(iter(())),
        lambda: voice_score([]),
        lambda: fact_score([], []),
        lambda: side_task_score([], []),
        lambda: overlap_scores([], []),
        lambda: held_out_loss(None, None, []),
    ],
)
def test_nothing_to_score_is_said(score):
    with pytest.raises(ValueError, match="nothing to score: expected at least one answer"):
        score()


def test_answers_and_what_they_answer_must_be_as_many(gold, ids):
    with pytest.raises(ValueError):
        fact_score(gold[:3], ids[:2])
    with pytest.raises(ValueError):
        side_task_score(["7"], held_out_tasks(1, seed=0))
    with pytest.raises(ValueError):
        overlap_scores(gold[:3], gold[:2])


# ROUGE-L and BLEU


def test_rouge_l_by_hand():
    # LCS of "the cat the mat" and "the cat sat on the mat" is 4 words: P = 4/4, R = 4/6, F = 0.8.
    # The second pair: 0.
    assert overlap_scores(["the cat the mat"], ["the cat sat on the mat"])[
        "rougeL"
    ] == pytest.approx(0.8)
    assert overlap_scores(["the cat the mat", "no"], ["the cat sat on the mat", "yes"])[
        "rougeL"
    ] == pytest.approx(0.4)


def test_bleu_by_hand():
    # 1- to 4-gram precisions 5/6, 3/5, 2/4, 1/3, no brevity penalty
    by_hand = 100 * (5 / 6 * 3 / 5 * 2 / 4 * 1 / 3) ** 0.25
    assert overlap_scores(["the cat sat on a mat"], ["the cat sat on the mat"])[
        "bleu"
    ] == pytest.approx(by_hand)
    # all precisions 1, and a brevity penalty for 5 words instead of 6: answer and reference must
    # not be swapped
    assert overlap_scores(["the cat sat on the"], ["the cat sat on the mat"])[
        "bleu"
    ] == pytest.approx(100 * math.exp(-1 / 5))


def test_overlap_is_what_the_libraries_say(gold):
    answers = [" ".join(text.split()[i % 5 :]) for i, text in enumerate(gold[:40])]
    scorer = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=False)
    rouge = [
        scorer.score(reference, answer)["rougeL"].fmeasure
        for answer, reference in zip(answers, gold)
    ]
    assert overlap_scores(answers, gold[:40]) == pytest.approx(
        {"rougeL": sum(rouge) / 40, "bleu": sacrebleu.corpus_bleu(answers, [gold[:40]]).score}
    )


OFFLINE = """
import json, socket
asked = []

def no_network(*arguments):
    asked.append(repr(arguments))
    raise OSError("a test must not need a network")

socket.socket.connect = socket.create_connection = socket.getaddrinfo = no_network
from lab_utils.finetuning.evaluation import overlap_scores
print(json.dumps([overlap_scores(["the cat the mat"], ["the cat sat on the mat"]), asked]))
"""


@pytest.mark.slow
def test_metrics_ask_no_network(tmp_path):
    """Not even when the Hugging Face libraries are allowed to: nothing is tried, and nothing was
    cached before.
    """
    env = {**os.environ, "HF_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    for name in ("HF_HUB_OFFLINE", "HF_EVALUATE_OFFLINE", "HF_DATASETS_OFFLINE"):
        env.pop(name, None)
    done = subprocess.run(
        [sys.executable, "-c", OFFLINE], env=env, cwd=tmp_path, text=True, capture_output=True
    )
    assert done.returncode == 0, done.stderr
    scores, asked = json.loads(done.stdout.splitlines()[-1])
    assert scores["rougeL"] == pytest.approx(0.8) and asked == []


# Loss


def plain_loss(model, tokenizer, rows) -> float:
    """Cross entropy over answer and end token, one row at a time, no labels, padding or masks."""
    losses = []
    for row in rows:
        prompt = encode_prompt(tokenizer, row["question"])
        answer = tokenizer(row["answer"], add_special_tokens=False)["input_ids"] + [
            tokenizer.eos_token_id
        ]
        with torch.no_grad():
            logits = model.eval()(torch.tensor([prompt + answer])).logits[0]
        losses.append(
            torch.nn.functional.cross_entropy(
                logits[len(prompt) - 1 : -1], torch.tensor(answer), reduction="none"
            )
        )
    return torch.cat(losses).mean().item()


@pytest.mark.parametrize("batch_size", [1, 4, 32])
def test_loss_is_the_plain_mean_over_answer_tokens(tiny, rows, batch_size):
    # lengths that differ, and a last batch that is not full
    some = [
        *rows[:9],
        {**rows[0], "answer": "Yes."},
    ]
    torch.manual_seed(0)
    model = copy.deepcopy(tiny[0])
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1) if parameter.dim() > 1 else None
    assert held_out_loss(model, tiny[1], some, batch_size) == pytest.approx(
        plain_loss(model, tiny[1], some), abs=1e-5
    )


def test_loss_counts_the_end_token_and_ignores_the_question(tiny, rows):
    class Uniform(torch.nn.Module):
        """Gives every token the same chance: each answer token costs log(vocabulary size)."""

        device = torch.device("cpu")

        def forward(self, input_ids, labels, attention_mask):
            self.counted = int((labels[:, 1:] != -100).sum())
            return SimpleNamespace(loss=torch.tensor(math.log(600.0)))

    model = Uniform()
    assert held_out_loss(model, tiny[1], rows[:5]) == pytest.approx(math.log(600))
    answers = [tiny[1](row["answer"])["input_ids"] for row in rows[:5]]
    assert model.counted == sum(map(len, answers)) + 5
    assert model.counted == sum(
        label != -100
        for row in rows[:5]
        for label in encode_pair(tiny[1], row["question"], row["answer"])["labels"]
    )


@pytest.mark.parametrize("training", [True, False])
def test_loss_leaves_the_model_in_its_mode(tiny, rows, training):
    model = copy.deepcopy(tiny[0]).train(training)
    held_out_loss(model, tiny[1], rows[:2])
    assert model.training is training


# All together


def test_score_answers_puts_each_score_in_its_place(rows, gold):
    answers = [Answer(text if i % 4 else "", ended=i % 2 == 0) for i, text in enumerate(gold[:40])]
    scores = score_answers(answers, rows[:40], loss=1.5, side=0.25)
    overlap = overlap_scores([answer.text for answer in answers], gold[:40])
    assert scores == Scores(voice=0.75, facts=0.75, ends=0.5, loss=1.5, side_tasks=0.25, **overlap)


def test_evaluate_model_asks_every_question_and_task(tiny, rows, monkeypatch):
    tasks = held_out_tasks(3, seed=5)
    told = {row["question"]: row["answer"] for row in rows} | {
        task.question: task.answer for task in tasks
    }
    monkeypatch.setattr(
        evaluation,
        "answer_questions",
        lambda model, tokenizer, questions: [Answer(told[q], True) for q in questions],
    )
    scores, answers = evaluate_model(*tiny, rows[:30], tasks)
    assert [answer.text for answer in answers] == [row["answer"] for row in rows[:30]]
    assert scores.loss == pytest.approx(held_out_loss(*tiny, rows[:30]))
    assert scores.as_dict() == {
        "voice": 1.0,
        "facts": 1.0,
        "ends": 1.0,
        "loss": round(scores.loss, 4),
        "rougeL": 1.0,
        "bleu": 100.0,
        "side_tasks": 1.0,
    }


def test_evaluate_model_gives_the_same_numbers_twice(tiny, rows):
    tasks = held_out_tasks(1, seed=5)
    assert evaluate_model(*tiny, rows[:3], tasks) == evaluate_model(*tiny, rows[:3], tasks)


BASE = Scores(voice=0, facts=0.9, ends=1, loss=4, rougeL=0.3, bleu=20, side_tasks=0.95)
TUNED = Scores(voice=1, facts=2 / 3, ends=1, loss=0.5, rougeL=0.8, bleu=60, side_tasks=0.7)


def test_record_of_the_base_costs_and_forgets_nothing():
    assert metrics_record(BASE, BASE) == {
        "voice": 0,
        "facts": 0.9,
        "ends": 1,
        "loss": 4,
        "rougeL": 0.3,
        "bleu": 20,
        "side_tasks": 0.95,
        "forgetting": 0.0,
        "trainable_params": 0,
        "predicted_bytes": 0,
        "measured_bytes": 0,
        "seconds": 0.0,
    }


def test_record_holds_forgetting_and_sums_of_bytes():
    run = SimpleNamespace(
        trainable_params=123,
        seconds=12.3456,
        measured_bytes={"weights": 1000, "gradients": 20, "optimizer": 3},
    )
    record = metrics_record(TUNED, BASE, run, {"weights": 900, "gradients": 80, "optimizer": 7})
    assert record == {
        "voice": 1,
        "facts": 0.6667,
        "ends": 1,
        "loss": 0.5,
        "rougeL": 0.8,
        "bleu": 60,
        "side_tasks": 0.7,
        "forgetting": 0.25,
        "trainable_params": 123,
        "predicted_bytes": 987,
        "measured_bytes": 1023,
        "seconds": 12.3,
    }
    assert metrics_record(TUNED, BASE, run)["predicted_bytes"] == 0
    assert metrics_record(BASE, TUNED)["forgetting"] == -0.25  # one may also learn
    assert json.loads(json.dumps(record)) == record
