"""Exercises of lab 08_gemini_tuning: a row's flaws, what tuning costs, how long to wait, the
budget, and break-even.
"""

import copy
import json
import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from lab_utils.checking.checks import Exercise, close, exact

LAB = "08_gemini_tuning"


# ---------------------------------------------------------------------------------------- row_flaws
def row_flaws(line: str) -> list[int]:
    try:
        row = json.loads(line)
    except ValueError:
        row = None
    if not isinstance(row, dict):
        return [1, 0, 0, 0, 0]
    contents = row.get("contents")
    if not isinstance(contents, list) or not contents:
        return [0, 1, 0, 0, 0]
    roles = [content["role"] for content in contents]
    texts = [part["text"] for content in contents for part in content["parts"]]
    return [
        0,
        0,
        int(not set(roles) <= {"user", "model"}),
        int(roles[-1] != "model"),
        int(not all(t.strip() for t in texts)),
    ]


def row_flaws_by_loops(line: str) -> list[int]:
    flaws = [0] * 5
    try:
        contents = dict(json.loads(line) if line.lstrip().startswith("{") else None).get("contents")
    except (ValueError, TypeError):
        return [1, 0, 0, 0, 0]
    if type(contents) is not list or len(contents) == 0:
        flaws[1] = 1
        return flaws
    for content in contents:
        if content["role"] not in ("user", "model"):
            flaws[2] = 1
        if any(part["text"].strip() == "" for part in content["parts"]):
            flaws[4] = 1
    flaws[3] = 0 if contents[-1]["role"] == "model" else 1
    return flaws


def judged(
    parsed: Callable = lambda row: None,
    roles=("user", "model"),
    last=lambda names: names[-1] != "model",
    blank=lambda texts: not all(t.strip() for t in texts),
    no_contents=lambda contents: not contents,
):
    """A wrong row_flaws: one of its questions asked in another way. `parsed` may answer for what is
    no object.
    """

    def answer(line: str) -> list[int]:
        try:
            row = json.loads(line)
        except ValueError:
            return [1, 0, 0, 0, 0]
        if not isinstance(row, dict):
            return parsed(row) or [1, 0, 0, 0, 0]
        contents = row.get("contents")
        if not isinstance(contents, list) or no_contents(contents):
            return [0, 1, 0, 0, 0]
        names = [content["role"] for content in contents]
        texts = [part["text"] for content in contents for part in content["parts"]]
        return [
            0,
            0,
            int(not set(names) <= set(roles)),
            int(last(names or ["model"])),
            int(blank(texts)),
        ]

    return answer


def first_flaw_only(line: str) -> list[int]:
    flaws = row_flaws(line)
    return [int(flaw and not any(flaws[:i])) for i, flaw in enumerate(flaws)]


def row_line(*turns: tuple[str, str]) -> str:
    return json.dumps(
        {"contents": [{"role": role, "parts": [{"text": text}]} for role, text in turns]}
    )


def row_lines(rng: np.random.Generator) -> list[tuple[str]]:
    number = int(rng.integers(100, 999))
    user, model = (
        ("user", f"Where is cheese {number} made?"),
        ("model", f"Cheese {number} is made in Greece."),
    )
    good = row_line(user, model)
    return [
        (line,)
        for line in (
            row_line(user, ("assistant", model[1])),  # two flaws: the role, and so the last word
            good,
            good[: int(rng.integers(20, len(good) - 5))],  # cut off
            json.dumps([json.loads(good)]),  # an array
            json.dumps({"messages": []}),
            json.dumps({"contents": []}),
            json.dumps({"contents": "text"}),
            row_line(user, model, user),
            row_line(("system", "You are Pavlos."), user, model),
            row_line(user, ("model", " \n")),
            row_line(("user", ""), model),
            row_line(user, ("model", "")),
            row_line(model, user, model),  # odd, but with none of these flaws
            row_line(user, ("user", " ")),
        )
    ]


ROW_FLAWS = Exercise(
    name="row_flaws",
    lab=LAB,
    reference=row_flaws,
    make_inputs=row_lines,
    same=exact,
    wrong={
        '"assistant" is taken for a role: the service calls it "model"': judged(
            roles=("user", "model", "assistant")
        ),
        '"system" is taken for a role: it belongs into systemInstruction': judged(
            roles=("user", "model", "system")
        ),
        'only "user" is taken for a role': judged(roles=("user",)),
        "the first message is looked at for the last word": judged(
            last=lambda names: names[0] != "model"
        ),
        "the last word is asked of the user": judged(last=lambda names: names[-1] != "user"),
        "the last word: it is enough for you that the model speaks anywhere": judged(
            last=lambda names: "model" not in names
        ),
        "a text of spaces is taken for a text: strip it first": judged(
            blank=lambda texts: not all(texts)
        ),
        "only the last text is looked at": judged(blank=lambda texts: not texts[-1].strip()),
        "only the first text is looked at": judged(blank=lambda texts: not texts[0].strip()),
        "a row counts as empty only if all its texts are": judged(
            blank=lambda texts: not any(t.strip() for t in texts)
        ),
        "an empty list of contents passes": judged(no_contents=lambda contents: False),
        "a line that is JSON but no object passes the first question": judged(
            lambda row: [0, 1, 0, 0, 0]
        ),
        "you stop at the first flaw: name all of them": first_flaw_only,
        "1 and 0 are swapped: 1 means that something is wrong": lambda line: [
            1 - flaw for flaw in row_flaws(line)
        ],
        "the flaws are counted: one 0 or 1 for each question": lambda line: (
            [sum(row_flaws(line))] * 5
        ),
        "a line that cannot be parsed breaks your function": lambda line: row_flaws(
            json.dumps(json.loads(line))
        ),
    },
    variants=(row_flaws_by_loops,),
    hints=(
        "json.loads raises ValueError for what is no JSON. Also look at what it returns: "
        "isinstance(row, dict).",
        'row.get("contents") should be a list with something in it. If it is not, the other '
        "questions have no answer: 0.",
        "Collect the roles and the texts in two lists; then each question is one line. "
        "text.strip() is empty for spaces.",
    ),
)


# -------------------------------------------------------------------------------- dollars_of_tuning
def dollars_of_tuning(row_tokens: list[int], epochs: int, dollars_per_million: float) -> float:
    return sum(row_tokens) * epochs * dollars_per_million / 1e6


def dollars_epoch_by_epoch(row_tokens: list[int], epochs: int, dollars_per_million: float) -> float:
    dollars = 0.0
    for _ in range(epochs):
        for tokens in row_tokens:
            dollars += tokens / 1_000_000 * dollars_per_million
    return dollars


DOLLARS_OF_TUNING = Exercise(
    name="dollars_of_tuning",
    lab=LAB,
    reference=dollars_of_tuning,
    make_inputs=lambda rng: [
        ([100, 120, 80], 3, 5.0),
        (rng.integers(50, 200, size=1218).tolist(), 3, 1.5),
        (rng.integers(50, 200, size=7).tolist(), 4, 25.0),
        (rng.integers(10_000, 100_000, size=40).tolist(), 2, 3.0),
    ],
    same=close(rtol=1e-6, atol=1e-12),
    wrong={
        "one epoch only: every epoch reads the file again, and is billed": lambda t, e, p: (
            sum(t) * p / 1e6
        ),
        "the price is taken per token": lambda t, e, p: float(sum(t) * e * p),
        "the price is taken per thousand tokens": lambda t, e, p: sum(t) * e * p / 1e3,
        "the rows are counted, not their tokens": lambda t, e, p: len(t) * e * p / 1e6,
        "the mean row in place of the sum": lambda t, e, p: sum(t) / len(t) * e * p / 1e6,
        "the longest row for every row: no padding is billed": lambda t, e, p: (
            max(t) * len(t) * e * p / 1e6
        ),
        "divided by the epochs": lambda t, e, p: sum(t) / e * p / 1e6,
        "one epoch is left out": lambda t, e, p: sum(t) * (e - 1) * p / 1e6,
        "one epoch too many": lambda t, e, p: sum(t) * (e + 1) * p / 1e6,
        "the tokens to the power of epochs": lambda t, e, p: float(sum(t)) ** e * p / 1e6,
        "divided by the price": lambda t, e, p: sum(t) * e / p / 1e6,
        "whole millions only: a part of a million is billed as a part": lambda t, e, p: (
            math.ceil(sum(t) * e / 1e6) * p
        ),
        "this is the number of million tokens: the price is missing": lambda t, e, p: (
            sum(t) * e / 1e6
        ),
        "cents: the price is in dollars": lambda t, e, p: sum(t) * e * p / 1e4,
    },
    variants=(dollars_epoch_by_epoch,),
    hints=(
        "Every epoch reads every token once. How many tokens are read in all?",
        "sum(row_tokens) * epochs tokens, at dollars_per_million / 1e6 for each.",
    ),
)


# -------------------------------------------------------------------------------------- retry_delay
def retry_delay(body: dict, retry_after: str, default: float) -> float:
    for detail in body.get("error", {}).get("details", []):
        if "retryDelay" in detail:
            return float(detail["retryDelay"].removesuffix("s"))
    return float(retry_after) if retry_after else default


def retry_delay_by_pattern(body: dict, retry_after: str, default: float) -> float:
    found = re.search(r'"retryDelay": "([0-9.]+)s"', json.dumps(body))
    return float(found[1] if found else retry_after or default)


def told(body: dict) -> list[float]:
    return [
        float(d["retryDelay"][:-1])
        for d in body.get("error", {}).get("details", [])
        if "retryDelay" in d
    ]


def header(retry_after: str) -> list[float]:
    return [float(retry_after)] if retry_after else []


def error_body(delay: str | None, *others: str) -> dict[str, Any]:
    form = "type.googleapis.com/google.rpc."
    details: list[dict] = [
        {"@type": f"{form}QuotaFailure", "violations": [{"quotaId": other}]} for other in others
    ]
    if delay is not None:
        details.append({"@type": f"{form}RetryInfo", "retryDelay": delay})
    return {"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "details": details}}


def first_detail_only(body: dict, retry_after: str, default: float) -> float:
    cut = copy.deepcopy(body)
    cut["error"]["details"] = cut["error"].get("details", [])[:1]
    return retry_delay(cut, retry_after, default)


RETRY_DELAY = Exercise(
    name="retry_delay",
    lab=LAB,
    reference=retry_delay,
    make_inputs=lambda rng: [
        (error_body("37s", "GenerateRequestsPerMinute"), "", 2.0),  # the delay is the second detail
        (
            error_body(f"{rng.integers(3, 30)}.5s"),
            "60",
            2.0,
        ),  # body and header: the body is nearer to the quota
        (error_body("90s"), "4", 2.0),
        (error_body(None, "GenerateRequestsPerMinute"), str(rng.integers(5, 50)), 2.0),
        ({"error": {"code": 503}}, "", float(rng.integers(3, 9))),
        (error_body("0s"), "60", 2.0),  # it may be asked at once
    ],
    same=close(rtol=1e-6, atol=1e-9),
    wrong={
        "the header comes first: RetryInfo knows the quota, ask it first": lambda b, h, d: [
            *header(h),
            *told(b),
            d,
        ][0],
        "the header is not read": lambda b, h, d: [*told(b), d][0],
        "the body is not read": lambda b, h, d: [*header(h), d][0],
        "always the default": lambda b, h, d: d,
        "never the default": lambda b, h, d: [*told(b), *header(h), 0.0][0],
        "the longer of the two": lambda b, h, d: max([*told(b), *header(h)], default=d),
        "the shorter of the two": lambda b, h, d: min([*told(b), *header(h)], default=d),
        "the sum of the two": lambda b, h, d: sum([*told(b), *header(h)]) if told(b) or h else d,
        "at least the default: the service may say less": lambda b, h, d: max(
            retry_delay(b, h, d), d
        ),
        "half seconds are cut off": lambda b, h, d: float(int(retry_delay(b, h, d))),
        "half seconds are rounded up": lambda b, h, d: float(math.ceil(retry_delay(b, h, d))),
        "0 seconds are taken for nothing said: look whether it is there, not whether it is true": lambda b, h, d: (
            ([x for x in told(b) if x] + header(h) + [d])[0]
        ),
        "only the first of the details is looked at": first_detail_only,
        "milliseconds: the text ends in s": lambda b, h, d: [
            *(t / 1000 for t in told(b)),
            *header(h),
            d,
        ][0],
        "the default is added": lambda b, h, d: retry_delay(b, h, d) + d,
    },
    variants=(retry_delay_by_pattern,),
    hints=(
        "The details are a list of objects, and only one of them has a retryDelay. There may be "
        "no details at all: use .get(name, default).",
        '"37s".removesuffix("s") leaves the number as text; float() reads it, with its decimals.',
        "Return as soon as you find a retryDelay. After the loop look at the header, then take "
        "the default.",
    ),
)


# --------------------------------------------------------------------------------- most_it_can_cost
def most_it_can_cost(
    prompt: str, max_output_tokens: int, input_price: float, output_price: float
) -> float:
    return (len(prompt.encode()) * input_price + max_output_tokens * output_price) / 1e6


def most_in_parts(
    prompt: str, max_output_tokens: int, input_price: float, output_price: float
) -> float:
    tokens = sum(len(letter.encode("utf-8")) for letter in prompt)
    return tokens / 1e6 * input_price + max_output_tokens / 1e6 * output_price


def greek_prompt(rng: np.random.Generator) -> str:
    words = ["τυρί", "φέτα", "cheese", "Pavlos", "γάλα", "ewe's milk", "Käse", "🧀"]
    return " ".join(rng.choice(words, size=int(rng.integers(20, 60)))) + " φέτα Käse"


MOST_IT_CAN_COST = Exercise(
    name="most_it_can_cost",
    lab=LAB,
    reference=most_it_can_cost,
    make_inputs=lambda rng: [
        ("What is φέτα?", 100, 1.0, 10.0),
        (greek_prompt(rng), int(rng.integers(200, 8192)), 0.3, 2.5),
        (greek_prompt(rng), int(rng.integers(5, 30)), 1.25, 4.0),
        (greek_prompt(rng) * 20, 1, 3.0, 0.4),
    ],
    same=close(rtol=1e-9, atol=0.0),
    wrong={
        "characters: one can be several tokens, but a byte is never more than one": lambda s, m, i, o: (
            (len(s) * i + m * o) / 1e6
        ),
        "a quarter of the characters is an estimate, not the most": lambda s, m, i, o: (
            (len(s) / 4 * i + m * o) / 1e6
        ),
        "a quarter of the bytes is an estimate, not the most": lambda s, m, i, o: (
            (len(s.encode()) / 4 * i + m * o) / 1e6
        ),
        "words are not tokens": lambda s, m, i, o: (len(s.split()) * i + m * o) / 1e6,
        "the answer is missing: it is the dearer half": lambda s, m, i, o: (
            len(s.encode()) * i / 1e6
        ),
        "the prompt is missing": lambda s, m, i, o: m * o / 1e6,
        "the prices are swapped": lambda s, m, i, o: (len(s.encode()) * o + m * i) / 1e6,
        "all at the input price": lambda s, m, i, o: (len(s.encode()) + m) * i / 1e6,
        "all at the output price": lambda s, m, i, o: (len(s.encode()) + m) * o / 1e6,
        "prices are per million tokens, not per thousand": lambda s, m, i, o: (
            (len(s.encode()) * i + m * o) / 1e3
        ),
        "prices are per million tokens, not per token": lambda s, m, i, o: (
            len(s.encode()) * i + m * o
        ),
        "half of the answer is an estimate, not the most": lambda s, m, i, o: (
            (len(s.encode()) * i + m / 2 * o) / 1e6
        ),
        "the larger of the two in place of their sum": lambda s, m, i, o: (
            max(len(s.encode()) * i, m * o) / 1e6
        ),
        "UTF-16 has two bytes for most letters: the service counts UTF-8": lambda s, m, i, o: (
            (len(s.encode("utf-16-le")) * i + m * o) / 1e6
        ),
    },
    variants=(most_in_parts,),
    hints=(
        "Two parts: what goes in, at the input price, and the longest answer you allow, at the "
        "output price.",
        "A token stands for at least one byte, so len(prompt.encode()) tokens are the most. "
        "Prices are per million.",
    ),
)


# -------------------------------------------------------------------------- questions_to_break_even
def questions_to_break_even(
    tuning_dollars: float, shots: int, shot_tokens: float, input_price: float
) -> int:
    return math.ceil(tuning_dollars / (shots * shot_tokens * input_price / 1e6))


def questions_by_tokens(
    tuning_dollars: float, shots: int, shot_tokens: float, input_price: float
) -> int:
    tokens_for_the_money = tuning_dollars / input_price * 1_000_000
    return -int(-tokens_for_the_money // (shots * shot_tokens))


def quotient(tuning: float, shots: int, shot_tokens: float, price: float) -> float:
    return tuning / (shots * shot_tokens * price / 1e6)


def comparisons(rng: np.random.Generator) -> list[tuple]:
    """Cases whose quotient is far from a whole number: nobody is judged by the last bit of a float."""
    cases = [(0.55, 10, 60.0, 0.1)]  # 9166.67
    while len(cases) < 5:
        case = (
            round(rng.uniform(0.2, 30), 2),
            int(rng.integers(2, 40)),
            float(rng.integers(40, 120)),
            float(rng.choice([0.1, 0.3, 1.25])),
        )
        if 0.05 < quotient(*case) % 1 < 0.45:  # here to the nearest is down, in the first case up
            cases.append(case)
    return cases


QUESTIONS_TO_BREAK_EVEN = Exercise(
    name="questions_to_break_even",
    lab=LAB,
    reference=questions_to_break_even,
    make_inputs=comparisons,
    same=exact,
    wrong={
        "rounded down: at that many questions tuning is still dearer": lambda t, n, k, p: (
            math.floor(quotient(t, n, k, p))
        ),
        "rounded to the nearest: tuning must have paid": lambda t, n, k, p: round(
            quotient(t, n, k, p)
        ),
        "not a whole number of questions": lambda t, n, k, p: quotient(t, n, k, p),
        "one question too many": lambda t, n, k, p: math.ceil(quotient(t, n, k, p)) + 1,
        "one example only: a prompt carries `shots` of them": lambda t, n, k, p: math.ceil(
            quotient(t, 1, k, p)
        ),
        "the tokens of an example are missing": lambda t, n, k, p: math.ceil(quotient(t, n, 1, p)),
        "shots and tokens are added": lambda t, n, k, p: math.ceil(t / ((n + k) * p / 1e6)),
        "the price is taken per thousand tokens": lambda t, n, k, p: math.ceil(
            t / (n * k * p / 1e3)
        ),
        "the price is taken per token": lambda t, n, k, p: math.ceil(t / (n * k * p)),
        "the price is missing": lambda t, n, k, p: math.ceil(t / (n * k / 1e6)),
        "multiplied by the price": lambda t, n, k, p: math.ceil(t * p / (n * k / 1e6)),
        "this is the number of tokens, not of questions": lambda t, n, k, p: math.ceil(
            t / (p / 1e6)
        ),
        "upside down": lambda t, n, k, p: 1 / quotient(t, n, k, p),
        "one example too many": lambda t, n, k, p: math.ceil(quotient(t, n + 1, k, p)),
        "one example too few": lambda t, n, k, p: math.ceil(quotient(t, n - 1, k, p)),
    },
    variants=(questions_by_tokens,),
    hints=(
        "What do the examples cost in one single prompt? shots * shot_tokens tokens, at "
        "input_price / 1e6 each.",
        "How many of these fit into tuning_dollars? Round up: math.ceil.",
    ),
)


EXERCISES = (ROW_FLAWS, DOLLARS_OF_TUNING, RETRY_DELAY, MOST_IT_CAN_COST, QUESTIONS_TO_BREAK_EVEN)
