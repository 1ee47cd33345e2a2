"""Exercises of lab 08_gemini_tuning: a row's flaws, what tuning costs, how long to wait, the
budget, and break-even.
"""

import copy
import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from lab_utils.checking.checks import Exercise, close, decimal, draw_until, exact, one_of, whole

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


def row_line(*turns: tuple[str, ...]) -> str:
    """A row of messages, each a role and its texts."""
    messages = [{"role": role, "parts": [{"text": t} for t in texts]} for role, *texts in turns]
    return json.dumps({"contents": messages})


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
            *NO_ROWS,
            "\n " + good + "\n",
            row_line((user[0], "Who?", " "), model),
            row_line(user, (model[0], "Greece.", "")),
            row_line(user, ("tool", "7"), model),
            row_line(user, (model[0], "\t"), user, model),
            row_line(user, (model[0], "y")),
            row_line(model),
            row_line(("User", user[1]), model),
            row_line(("tool", " ")),
            row_line(user, model, user),
            row_line(("system", "You are Pavlos."), user, model),
            row_line(user, ("model", " \n")),
            row_line(("user", ""), model),
            row_line(user, ("model", "")),
            row_line(model, user, model),  # odd, but with none of these flaws
            row_line(user, ("user", " ")),
        )
    ]


ROLES = ("user", "model", "user", "model", "assistant", "system", "User")
TEXTS = ("Where is Feta from?", "Greece.", "y", "7", "", " ", "\n\t", "φέτα", " a ")
NO_ROWS = (
    "null",
    "17",
    '"contents"',
    "true",
    "[]",
    '["contents"]',
    "",
    "{",
    "{}",
    '{"contents": null}',
    '{"contents": {}}',
    '{"contents": {"role": "user"}}',
    '{"contents": []}',
    '{"contents": "user"}',
    '{"contents": 3}',
    '{"messages": [1]}',
)


def random_line(rng: np.random.Generator) -> tuple[str]:
    """Messages of any roles with one or two texts each; now and then no row at all."""
    if rng.random() < 0.3:
        return (one_of(rng, *NO_ROWS),)
    turns = [
        (one_of(rng, *ROLES), *(one_of(rng, *TEXTS[: one_of(rng, 3, 9)]) for _ in range(n_texts)))
        for n_texts in rng.integers(1, 3, size=whole(rng, 1, 4))
    ]
    return (row_line(*turns) + one_of(rng, "", "\n"),)


def flaws_are(*wanted: int) -> Callable[[str], bool]:
    return lambda line: row_flaws(line) == list(wanted)


def texts_of(line: str) -> list[list[str]]:
    """The texts of each message, or none."""
    if any(row_flaws(line)[:2]):
        return []
    messages = json.loads(line)["contents"]
    return [[part["text"] for part in message["parts"]] for message in messages]


ROW_FLAWS = Exercise(
    name="row_flaws",
    lab=LAB,
    reference=row_flaws,
    cases=row_lines,
    domain=random_line,
    corners={
        "no flaw": flaws_are(0, 0, 0, 0, 0),
        "a role and the last word": flaws_are(0, 0, 1, 1, 0),
        "a role alone": flaws_are(0, 0, 1, 0, 0),
        "the last word alone": flaws_are(0, 0, 0, 1, 0),
        "a blank text alone": flaws_are(0, 0, 0, 0, 1),
        "all three": flaws_are(0, 0, 1, 1, 1),
        "null": lambda line: line == "null",
        "a number": lambda line: line == "17",
        "a text": lambda line: line == '"contents"',
        "a list": lambda line: line.startswith("[{"),
        "an empty line": lambda line: line == "",
        "contents is null": lambda line: line == '{"contents": null}',
        "contents is an object": lambda line: line == '{"contents": {"role": "user"}}',
        "contents is empty": lambda line: line == '{"contents": []}',
        "contents is a text": lambda line: line == '{"contents": "user"}',
        "no contents": lambda line: line == "{}",
        "a blank second text": lambda line: any(
            len(texts) > 1 and texts[0].strip() and not texts[1].strip() for texts in texts_of(line)
        ),
        "a blank text in the middle": lambda line: any(
            not texts[0].strip() for texts in texts_of(line)[1:-1]
        ),
        "a bad role in the middle": lambda line: (
            row_flaws(line)[:4] == [0, 0, 1, 0]
            and json.loads(line)["contents"][0]["role"] == "user"
        ),
        "an answer of one character": lambda line: any(
            len(text) == 1 for text in sum(texts_of(line)[-1:], [])
        ),
        "one message": lambda line: len(texts_of(line)) == 1,
    },
    same=exact,
    yes_or_no=True,
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
        "the last word: it is enough for you that the model speaks anywhere": judged(
            last=lambda names: "model" not in names
        ),
        "a text of spaces is taken for a text: strip it first": judged(
            blank=lambda texts: not all(texts)
        ),
        "only the last text is looked at": judged(blank=lambda texts: not texts[-1].strip()),
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
        "a line that cannot be parsed breaks your function": lambda line: row_flaws(
            json.dumps(json.loads(line))
        ),
    },
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


DOLLARS_OF_TUNING = Exercise(
    name="dollars_of_tuning",
    lab=LAB,
    reference=dollars_of_tuning,
    cases=lambda rng: [
        ([100, 120, 80], 3, 5.0),
        (rng.integers(50, 200, size=1218).tolist(), 3, 1.5),
        (rng.integers(50, 200, size=7).tolist(), 4, 25.0),
        (rng.integers(10_000, 100_000, size=40).tolist(), 2, 3.0),
        ([57], 1, 0.3),
        ([70, 70, 20], 3, 1.0),
    ],
    domain=lambda rng: (
        rng.integers(1, 300, size=whole(rng, 1, 50)).tolist(),
        whole(rng, 1, 10),
        decimal(rng, 0.1, 50),
    ),
    corners={
        "one epoch": lambda tokens, epochs, price: epochs == 1,
        "one row": lambda tokens, epochs, price: len(tokens) == 1,
        "equal rows": lambda tokens, epochs, price: len(set(tokens)) < len(tokens),
        "a price below 1": lambda tokens, epochs, price: price < 1,
        "more than a million tokens": lambda tokens, epochs, price: sum(tokens) > 1e6,
    },
    same=close(rtol=1e-5, atol=0),
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
        "one epoch is left out": lambda t, e, p: sum(t) * (e - 1) * p / 1e6,
        "whole millions only: a part of a million is billed as a part": lambda t, e, p: (
            math.ceil(sum(t) * e / 1e6) * p
        ),
        "cents: the price is in dollars": lambda t, e, p: sum(t) * e * p / 1e4,
    },
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


def told(body: dict) -> list[float]:
    return [
        float(d["retryDelay"][:-1])
        for d in body.get("error", {}).get("details", [])
        if "retryDelay" in d
    ]


def header(retry_after: str) -> list[float]:
    return [float(retry_after)] if retry_after else []


def error_body(
    delay: str | None, *others: str, first: bool = False, code: int = 429
) -> dict[str, Any]:
    """A reply of the service: what was too much, and after that, or first, how long to wait."""
    form = "type.googleapis.com/google.rpc."
    details: list[dict] = [
        {"@type": f"{form}QuotaFailure", "violations": [{"quotaId": other}]} for other in others
    ]
    if delay is not None:
        place = 0 if first else len(details)
        details.insert(place, {"@type": f"{form}RetryInfo", "retryDelay": delay})
    return {"error": {"code": code, "status": "RESOURCE_EXHAUSTED", "details": details}}


def first_detail_only(body: dict, retry_after: str, default: float) -> float:
    cut = copy.deepcopy(body)
    cut["error"]["details"] = cut["error"].get("details", [])[:1]
    return retry_delay(cut, retry_after, default)


def random_error(rng: np.random.Generator) -> tuple[dict, str, float]:
    delay = one_of(rng, None, "0s", f"{whole(rng, 1, 90)}s", f"{decimal(rng, 0.1, 90):.2f}s")
    others = ("PerMinute", "PerDay", "PerModel")[: whole(rng, 1, 3)]
    body = one_of(rng, error_body(delay, *others), error_body(delay), {}, {"error": {}})
    return body, one_of(rng, "", "0", str(whole(rng, 1, 120))), float(whole(rng, 1, 9))


def delays_in(body: dict) -> list[str]:
    """What each detail says about the delay, "" where it says nothing."""
    return [detail.get("retryDelay", "") for detail in body.get("error", {}).get("details", [])]


RETRY_DELAY = Exercise(
    name="retry_delay",
    lab=LAB,
    reference=retry_delay,
    cases=lambda rng: [
        (error_body("37s", "GenerateRequestsPerMinute"), "", 2.0),  # the delay is the second detail
        # body and header: the body is nearer to the quota
        (error_body(f"{rng.integers(3, 30)}.5s"), "60", 2.0),
        (error_body("90s"), "4", 2.0),
        (error_body(None, "GenerateRequestsPerMinute"), str(rng.integers(5, 50)), 2.0),
        ({"error": {"code": 503}}, "", float(rng.integers(3, 9))),
        (error_body("0s"), "60", 2.0),  # it may be asked at once
        ({}, "9", 2.0),
        ({}, "", 5.0),
        (error_body(None), "0", 2.0),
        ({"error": {"code": 503, "status": "UNAVAILABLE"}}, "75", 2.0),
        (error_body("12s", "PerMinute", "PerDay", first=True), "", 2.0),
        (error_body("8s", "PerMinute", "PerDay"), "", 2.0),
        (error_body("4s", "PerMinute", code=503), "30", 2.0),
    ],
    domain=random_error,
    corners={
        "no error in the reply": lambda body, header, default: body == {} and header != "",
        "nothing is said": lambda body, header, default: body == {} and header == "",
        "no details": lambda body, header, default: "details" not in body.get("error", body),
        "details without a delay": lambda body, header, default: (
            delays_in(body) != [] and not any(delays_in(body))
        ),
        "the first of several details": lambda body, header, default: (
            len(delays_in(body)) > 1 and delays_in(body)[0] != ""
        ),
        "the third detail": lambda body, header, default: delays_in(body)[:2] == ["", ""],
        "the header says 0": lambda body, header, default: header == "0",
        "the body says 0": lambda body, header, default: "0s" in delays_in(body),
        "another code than 429": lambda body, header, default: (
            body.get("error", {}).get("code") == 503 and any(delays_in(body))
        ),
        "more than a minute in the body": lambda body, header, default: "90s" in delays_in(body),
        "more than a minute in the header": lambda body, header, default: header == "75",
        "a part of a second": lambda body, header, default: any(
            "." in delay for delay in delays_in(body)
        ),
    },
    same=close(rtol=1e-5, atol=1e-6),
    wrong={
        "the header comes first: RetryInfo knows the quota, ask it first": lambda b, h, d: [
            *header(h),
            *told(b),
            d,
        ][0],
        "the header is not read": lambda b, h, d: [*told(b), d][0],
        "the body is not read": lambda b, h, d: [*header(h), d][0],
        "always the default": lambda b, h, d: d,
        "the longer of the two": lambda b, h, d: max([*told(b), *header(h)], default=d),
        "at least the default: the service may say less": lambda b, h, d: max(
            retry_delay(b, h, d), d
        ),
        "half seconds are cut off": lambda b, h, d: float(int(retry_delay(b, h, d))),
        "0 seconds are taken for nothing said: look whether it is there": lambda b, h, d: (
            [x for x in told(b) if x] + header(h) + [d]
        )[0],
        "only the first of the details is looked at": first_detail_only,
        "milliseconds: the text ends in s": lambda b, h, d: [
            *(t / 1000 for t in told(b)),
            *header(h),
            d,
        ][0],
    },
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


def greek_prompt(rng: np.random.Generator) -> str:
    words = ["τυρί", "φέτα", "cheese", "Pavlos", "γάλα", "ewe's milk", "Käse", "🧀"]
    return " ".join(rng.choice(words, size=int(rng.integers(20, 60)))) + " φέτα Käse"


MOST_IT_CAN_COST = Exercise(
    name="most_it_can_cost",
    lab=LAB,
    reference=most_it_can_cost,
    cases=lambda rng: [
        ("What is φέτα?", 100, 1.0, 10.0),
        (greek_prompt(rng), whole(rng, 200, 8191), 0.3, 2.5),
        (greek_prompt(rng), whole(rng, 5, 29), 1.25, 4.0),
        (greek_prompt(rng) * 20, 1, 3.0, 0.4),
        (" Why? \n", 1, 2.0, 0.1),
        ("", whole(rng, 5, 29), 2.0, 3.0),
        ("🧀", 1, 8.0, 1.0),
        ("Is FETA easy?", 3, 2.0, 2.0),
    ],
    domain=lambda rng: (
        greek_prompt(rng)[: whole(rng, 1, 400)],
        whole(rng, 1, 8192),
        decimal(rng, 0.05, 10),
        decimal(rng, 0.05, 30),
    ),
    corners={
        "plain letters": lambda prompt, *rest: prompt.isascii() and prompt != "",
        "white space at the ends": lambda prompt, *rest: prompt != prompt.strip(),
        "no prompt": lambda prompt, *rest: prompt == "",
        "four bytes for one character": lambda prompt, *rest: len(prompt) == 1,
        "one token of answer": lambda prompt, most, *prices: most == 1,
        "equal prices": lambda prompt, most, price_in, price_out: price_in == price_out,
        "a dearer prompt": lambda prompt, most, price_in, price_out: price_in > price_out,
        "a dearer answer": lambda prompt, most, price_in, price_out: price_in < price_out,
    },
    same=close(rtol=1e-5, atol=0.0),
    wrong={
        "characters: one can be several tokens, a byte is one at most": lambda s, m, i, o: (
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
        "prices are per million tokens, not per thousand": lambda s, m, i, o: (
            (len(s.encode()) * i + m * o) / 1e3
        ),
        "prices are per million tokens, not per token": lambda s, m, i, o: (
            len(s.encode()) * i + m * o
        ),
        "UTF-16 has two bytes for most letters: the service counts UTF-8": lambda s, m, i, o: (
            (len(s.encode("utf-16-le")) * i + m * o) / 1e6
        ),
    },
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


def quotient(tuning: float, shots: int, shot_tokens: float, price: float) -> float:
    return tuning / (shots * shot_tokens * price / 1e6)


def comparisons(rng: np.random.Generator) -> list[tuple]:
    """One case for each thing that can be rounded wrongly."""

    def with_rest(low: float, high: float) -> tuple:
        return draw_until(
            lambda *case: low < quotient(*case) % 1 < high,
            lambda: (
                decimal(rng, 0.2, 30),
                whole(rng, 2, 40),
                float(whole(rng, 40, 120)),
                one_of(rng, 0.1, 0.3, 1.25),
            ),
        )

    return [
        (0.55, 10, 60.0, 0.1),  # 9166.67
        even_comparison(rng),
        even_comparison(rng),
        with_rest(0.01, 0.09),
        with_rest(0.05, 0.45),
        with_rest(0.55, 0.95),
        (0.0008, 1, 130.0, 2.0),  # 3.08
        draw_until(
            whole_or_clear,
            lambda: (decimal(rng, 20, 50), 1, float(whole(rng, 5, 9)), 0.05),
        ),
    ]


def whole_or_clear(tuning: float, shots: int, shot_tokens: float, price: float) -> bool:
    """No quotient so near a whole number that the order of the arithmetic decides."""
    each = (
        shots * shot_tokens * price / 1e6,
        shots * shot_tokens * (price / 1e6),
        shots * (shot_tokens * price / 1e6),
        shots * (shot_tokens * (price / 1e6)),
        price / 1e6 * shots * shot_tokens,
        shots * shot_tokens / 1e6 * price,
        shots * shot_tokens * price * 1e-6,
        price * 1e-6 * shots * shot_tokens,
    )
    orders = [tuning / dollars for dollars in each]
    orders += [-(-tuning // dollars) for dollars in each]
    orders += [
        tuning * 1e6 / (shots * shot_tokens * price),
        tuning * 1e6 / price / shot_tokens / shots,
    ]
    orders += [
        tuning / price * 1e6 / (shots * shot_tokens),
        tuning / (price / 1e6) / (shots * shot_tokens),
    ]
    distance = abs(orders[0] - round(orders[0]))
    return distance > 1e-5 or len({round(order, 12) for order in orders} | {round(orders[0])}) == 1


def even_comparison(rng: np.random.Generator) -> tuple:
    """The examples cost exactly as much as tuning, in whatever order one computes."""

    def make() -> tuple:
        shots, tokens, price = whole(rng, 1, 40), float(whole(rng, 1, 120)), one_of(rng, 1.0, 2.0)
        return whole(rng, 2, 5000) * shots * tokens * price / 1e6, shots, tokens, price

    return draw_until(whole_or_clear, make)


QUESTIONS_TO_BREAK_EVEN = Exercise(
    name="questions_to_break_even",
    lab=LAB,
    reference=questions_to_break_even,
    cases=comparisons,
    domain=lambda rng: draw_until(
        whole_or_clear,
        lambda: (
            decimal(rng, 0.01, 50),
            whole(rng, 1, 60),
            float(whole(rng, 5, 200)),
            one_of(rng, 0.05, 0.1, 0.3, 1.0, 1.25, 2.0),
        ),
    ),
    corners={
        "exactly as much": lambda *numbers: quotient(*numbers) % 1 == 0,
        "a small rest": lambda *numbers: 0 < quotient(*numbers) % 1 < 0.1,
        "nearest would be down": lambda *numbers: 0.05 < quotient(*numbers) % 1 < 0.5,
        "nearest would be up": lambda *numbers: 0.5 < quotient(*numbers) % 1 < 1,
        "one example": lambda tuning, shots, shot_tokens, price: shots == 1,
        "a price above 1": lambda tuning, shots, shot_tokens, price: price > 1,
        "millions of questions": lambda *numbers: quotient(*numbers) > 4e6,
        "a handful of questions": lambda *numbers: quotient(*numbers) < 10,
    },
    same=exact,
    wrong={
        "rounded down: at that many questions tuning is still dearer": lambda t, n, k, p: (
            math.floor(quotient(t, n, k, p))
        ),
        "one question more than there must be where both cost the same": lambda t, n, k, p: (
            math.floor(quotient(t, n, k, p)) + 1
        ),
        "rounded to the nearest: tuning must have paid": lambda t, n, k, p: round(
            quotient(t, n, k, p)
        ),
        "not a whole number of questions": lambda t, n, k, p: quotient(t, n, k, p),
        "one example only: a prompt carries `shots` of them": lambda t, n, k, p: math.ceil(
            quotient(t, 1, k, p)
        ),
        "the tokens of an example are missing": lambda t, n, k, p: math.ceil(quotient(t, n, 1, p)),
        "the price is taken per thousand tokens": lambda t, n, k, p: math.ceil(
            t / (n * k * p / 1e3)
        ),
        "the price is taken per token": lambda t, n, k, p: math.ceil(t / (n * k * p)),
        "multiplied by the price": lambda t, n, k, p: math.ceil(t * p / (n * k / 1e6)),
        "this is the number of tokens, not of questions": lambda t, n, k, p: math.ceil(
            t / (p / 1e6)
        ),
    },
    hints=(
        "What do the examples cost in one single prompt? shots * shot_tokens tokens, at "
        "input_price / 1e6 each.",
        "How many of these fit into tuning_dollars? Round up: math.ceil.",
    ),
)


EXERCISES = (ROW_FLAWS, DOLLARS_OF_TUNING, RETRY_DELAY, MOST_IT_CAN_COST, QUESTIONS_TO_BREAK_EVEN)
