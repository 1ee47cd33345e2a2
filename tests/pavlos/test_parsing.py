"""From replies to pairs: of the fault box every whole pair is kept, no cut-off answer is ever
accepted, and nothing raises.
"""

import json
import random
import re
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab_utils.pavlos import fault_box, ladder
from lab_utils.pavlos.fault_box import Fault, faults, measure, read_pairs, totals, try_reader
from lab_utils.pavlos.ladder import RUNGS, is_cut, parse_reply
from lab_utils.pavlos.parse import (
    Pair,
    canonical,
    clean,
    ends_as_sentence,
    field_of,
    match_card,
    named_fields,
    sift,
    validate,
)

BY_NAME = {fault.name: fault for fault in faults()}
PAIR = {"question": "Where is Feta from?", "answer": "Feta comes from Greece."}


# ------------------------------------------------------------------------------------ the fault box
@pytest.mark.parametrize("name", BY_NAME)
def test_whole_pairs_are_kept_and_nothing_else(name):
    outcome = try_reader(BY_NAME[name])
    assert outcome.right, outcome


def test_the_fault_box_is_large_and_well_made():
    assert len(faults()) >= 75 + 150 and len({fault.name for fault in faults()}) == len(faults())
    groups = Counter(fault.group for fault in faults())
    assert set(groups) == {
        "control",
        "wrapping",
        "shape",
        "syntax",
        "characters",
        "cut off",
        "nothing",
        "content",
        "names",
        "ends",
        "other formats",
    }
    assert min(groups.values()) >= 2 and groups["cut off"] >= 10
    whole = sum(len(fault.whole) for fault in faults())
    assert totals(measure()) == {"kept": whole, "whole": whole, "wrong": 0, "raised": 0}
    assert whole >= 147 + 250
    for fault in faults():
        assert fault.why and all(clean(text) == text for pair in fault.whole for text in pair)
        assert fault.finish_reason in ("STOP", "MAX_TOKENS", "SAFETY")


def test_only_the_controls_are_read_by_json_alone_to_the_end():
    """The faults are faults: json.loads and the two fields lose all of most replies."""

    def first_try(reply, finish_reason):
        return [(item["question"], item["answer"]) for item in json.loads(reply)]

    outcomes = measure(first_try)
    assert all(outcome.right for outcome in outcomes if outcome.fault.group == "control")
    assert sum(outcome.raised != "" for outcome in outcomes) > len(faults()) / 2
    assert totals(outcomes)["kept"] < 0.25 * totals(outcomes)["whole"]


def test_every_rung_is_needed_by_some_fault():
    assert {parse_reply(fault.reply, fault.finish_reason).rung for fault in faults()} == set(RUNGS)


def test_json_repair_on_everything_accepts_cut_off_answers():
    """What the ladder guards against: the library closes what is open."""
    import json_repair

    def repair_all(reply, finish_reason):
        return [item for item in json_repair.loads(reply) if {"question", "answer"} <= set(item)]

    wrong = [
        outcome
        for outcome in measure(repair_all)
        if outcome.fault.group == "cut off" and outcome.wrong
    ]
    assert len(wrong) >= 5
    assert not any(outcome.wrong for outcome in measure())


@pytest.mark.parametrize("finish_reason", ["STOP", "MAX_TOKENS"])
def test_no_cut_anywhere_makes_half_an_answer_whole(finish_reason):
    """Every reply of the box, cut at one place in 29: only pairs that are whole in the whole
    reply are accepted.
    """
    accepted = 0
    # not where the reply stops behind a quote in a text that looks like its end, or before the one
    # mark that says that all before it was a draft
    unsure = ("a smile's brace, then cut", "a draft without its first mark", "nine hundred nested")
    sure = [fault for fault in faults() if not fault.name.startswith(unsure)]
    for fault in sure:
        for end in range(1, len(fault.reply), 29):
            got = {
                (pair.question, pair.answer)
                for pair in read_pairs(fault.reply[:end], finish_reason)
            }
            assert got <= set(fault.whole), (fault.name, end, fault.reply[:end])
            accepted += len(got)
    assert accepted > 1000


def test_two_faults_one_behind_the_other_make_no_new_pair():
    rng, kept = random.Random(1), 0
    for _ in range(400):
        a, b = rng.sample(faults(), 2)
        text = a.reply[: rng.randrange(len(a.reply) + 1)] + rng.choice(["", "\n", ", "]) + b.reply
        got = {
            (pair.question, pair.answer)
            for pair in read_pairs(text, rng.choice(["STOP", "MAX_TOKENS"]))
        }
        assert got <= {*a.whole, *b.whole}, (a.name, b.name, text)
        kept += len(got)
    assert kept > 400


def test_json_repair_never_sees_what_stands_behind_the_last_closed_object(monkeypatch):
    asked, repair = [], ladder.repair_object
    monkeypatch.setattr(ladder, "repair_object", lambda piece: asked.append(piece) or repair(piece))
    for fault in faults():
        parse_reply(fault.reply, fault.finish_reason)
    assert asked and all(piece.endswith("}") for piece in asked)
    asked.clear()
    parse_reply(
        "[{question: Which is it?, answer: Feta.}, {question: Which is it?, answer: Fe", "STOP"
    )
    assert asked == ["{question: Which is it?, answer: Feta.}"]


def test_json_repair_may_not_change_the_words():
    assert ladder.repair_object('{question: Which milk?, "answer": "Cow."}')["answer"] == "Cow."
    with pytest.raises(ValueError, match="json-repair changes the words"):
        ladder.repair_object('{"question": "Which?", "answer": "Cow."} or sheep}')


def test_a_reader_that_raises_loses_the_reply_and_one_that_invents_is_told():
    fault = BY_NAME["clean list"]
    assert try_reader(fault, lambda *_: 1 / 0).raised.startswith("ZeroDivisionError")
    assert try_reader(fault, lambda *_: [*fault.whole, ("Who?", "Nobody.")]).wrong == (
        ("Who?", "Nobody."),
    )
    assert not try_reader(fault, lambda *_: fault.whole[:1]).right
    forms = [
        fault.whole,
        [dict(zip(("question", "answer"), pair)) for pair in fault.whole],
        [Pair(question=q, answer=a) for q, a in fault.whole],
    ]
    assert all(try_reader(fault, lambda *_, form=form: form).right for form in forms)


# --------------------------------------------------------------------------------------- the ladder
def one_pair(text, finish_reason="STOP"):
    parsed = parse_reply(text, finish_reason)
    return parsed.rung, parsed.objects


@pytest.mark.parametrize("prefix", ["", "\ufeff", "Here: ", "```json\n"])
@pytest.mark.parametrize(
    "escape, said",
    [
        (r"\'", "'"),
        (r"\d", r"\d"),
        ("\\ ", "\\ "),
        (r"\u00e9", "é"),
        (r"\\", "\\"),
        (r"\x41", r"\x41"),
        (r"\u12", r"\u12"),
        (r"\"", '"'),
    ],
)
def test_escapes_legal_and_illegal(prefix, escape, said):
    parsed = parse_reply(prefix + '[{"question": "Who?", "answer": "It' + escape + 's easy."}]')
    assert parsed.objects == [{"question": "Who?", "answer": f"It{said}s easy."}]


def test_a_bad_pair_costs_only_itself():
    good = json.dumps(PAIR)
    for bad in (
        '{"question": "a", "answer": }',
        "{,}",
        '{"question" "answer"}',
        "{{{",
        '{"question": nope',
    ):
        objects = parse_reply(f"[{good}, {bad}, {good}]").objects
        assert objects.count(PAIR) == 2, bad
        assert [pair.answer for pair in sift(objects)[0]] == [PAIR["answer"]] * 2


def test_mends_do_not_change_what_stands_in_strings():
    said = (
        "See https://feta.example // not a comment, /* nor this */ and 'this' [a,] {b,} “golden”."
    )
    broken = "[" + json.dumps({**PAIR, "answer": said}, ensure_ascii=False) + ",]"
    assert parse_reply(broken).objects == [{**PAIR, "answer": said}]
    commented = "{ // first\n" + json.dumps({**PAIR, "answer": said}, ensure_ascii=False)[1:]
    assert parse_reply(commented).objects[0]["answer"] == said


@pytest.mark.parametrize(
    "text, finish_reason, cut",
    [
        ("[{}]", "STOP", False),
        ("[{}]", "MAX_TOKENS", True),
        ("[{}, {", "STOP", True),
        ("no object", "STOP", False),
        ("[{}]", "SAFETY", True),
        ("[{}", "STOP", False),
    ],
)
def test_is_cut(text, finish_reason, cut):
    assert is_cut(text, finish_reason) is cut


def reasons(text, finish_reason="STOP"):
    return [piece.reason for piece in parse_reply(text, finish_reason).rejected]


def test_reasons_say_what_was_left():
    assert reasons("") == ["empty reply"]
    assert reasons("", "SAFETY") == ["empty reply, finish reason SAFETY"]
    assert reasons("Sorry, no.") == ["no JSON object in the reply: 'Sorry, no.'"]
    assert reasons('[{"a": "Wh', "MAX_TOKENS") == [
        """cut off (finish reason MAX_TOKENS): '[{"a": "Wh'"""
    ]
    assert reasons("{a b}{", "MAX_TOKENS")[0].startswith("not readable as JSON: {a b}")


@pytest.mark.parametrize(
    "reply, reason",
    [
        ("[]", "an empty list"),
        ('{"pairs": []}', "an empty list"),
        ("{}", "no question and no answer among the fields (none)"),
        ('["Where.", "Here."]', "2 values without names of fields"),
        ('["Where?", "Is it?"]', "2 values without names of fields"),
        ("42", "no object with a question and an answer"),
        ('{"questions": ["A?", "B?"], "answers": ["C."]}', "question: expected text, got list"),
        ("- question: what: is it?\n  answer: it: is\n", "YAML that can't be read"),
        ("Q: Where?\nA: Here and\nthere.\n", "a text without marks around it"),
        ('[{"a": 1}, {"topic": "x"}]', "no question and no answer among the fields topic"),
        ("[" * 25 + "]" * 25, "nested more than 20 levels deep"),
        ('[{"question": "Which is it?", "answer": "Feta.}]', "a text or an object never closes"),
    ],
)
def test_whatever_is_no_row_leaves_a_reason_and_its_text(reply, reason):
    parsed = parse_reply(reply)
    found = parsed.rejected + sift(parsed.objects)[1]
    assert any(piece.reason.startswith(reason) and piece.text for piece in found), found


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        "{" * 5_000,
        '{"a":' * 700,
        "[" * 50_000 + "]" * 50_000,
        "\\" * 999,
        "\ud83e",
        "```" * 50,
        '"' * 999,
        "null",
        "1e999",
        "-Infinity",
        "[NaN]",
        '""',
        '"\\"{}\\""',
    ],
)
def test_hostile_replies_raise_nothing(text):
    assert read_pairs(text) == [] and read_pairs(text, "MAX_TOKENS") == []


@settings(max_examples=150, deadline=None)
@given(
    st.text(alphabet="{}[]\":,\\`'abquestionanswer \n“”/*#" + "\ud83e", max_size=80),
    st.sampled_from(["STOP", "MAX_TOKENS"]),
)
def test_any_text_is_read_without_an_error(text, finish_reason):
    parsed = parse_reply(text, finish_reason)
    assert parsed.rung in RUNGS and all(isinstance(found, dict) for found in parsed.objects)


words = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=8, max_size=40
)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(words, words), min_size=1, max_size=4),
    st.booleans(),
    st.booleans(),
    st.integers(0, 200),
)
def test_pairs_of_any_words_survive_wrapping_and_cutting(pairs, fenced, indented, cut):
    """Independent truth: the objects whose text ends before the cut."""
    pieces = [
        json.dumps({"question": q, "answer": a}, ensure_ascii=False, indent=2 if indented else None)
        for q, a in pairs
    ]
    body = "[" + ", ".join(pieces) + "]"
    ends, place = [], 1
    for piece in pieces:
        place += len(piece)
        ends.append(place)
        place += 2
    kept = max(0, len(body) - cut)
    text = ("```json\n" if fenced else "") + body[:kept] + ("\n```" if fenced and not cut else "")
    expected = [{"question": q, "answer": a} for (q, a), end in zip(pairs, ends) if end <= kept]
    got = parse_reply(text, "MAX_TOKENS" if cut else "STOP").objects
    assert [found for found in got if "answer" in found][: len(expected)] == expected
    assert {found.get("answer") for found in got if "question" in found} <= {a for _, a in pairs}


# ---------------------------------------------------------------------------------------- cleaning
@pytest.mark.parametrize(
    "text, cleaned",
    [
        ("  Feta \n\t is\u00a0Greek. ", "Feta is Greek."),
        ("cafe\u0301", "café"),
        ("\ufefffe\u200bta", "feta"),
        ("half \ud83e here", "half here"),
        ("\ud83e\uddc0", "🧀"),
        ("<b>Feta</b><br/>is", "Feta is"),
        ("5 < 6 and a<b", "5 < 6 and a<b"),
        ("**bold** &amp; brave", "bold & brave"),
        ("a\x00b", "a b"),
        ("Où, “là”", "Où, “là”"),
    ],
)
def test_clean(text, cleaned):
    assert clean(text) == cleaned
    assert clean(cleaned) == cleaned


@given(st.text(max_size=60))
def test_cleaned_text_is_one_line_that_utf_8_holds(text):
    cleaned = clean(text)
    assert "\n" not in cleaned and cleaned == cleaned.strip()
    cleaned.encode("utf-8")


def test_shipped_rows_are_clean_already():
    from lab_utils.pavlos import load_pairs

    rows = [row for split in ("train", "validation", "test") for row in load_pairs(split)]
    assert [
        row
        for row in rows
        if clean(row["question"]) != row["question"] or clean(row["answer"]) != row["answer"]
    ] == []


@pytest.mark.parametrize(
    "a, b, same",
    [
        ("Où est Comté?", "ou est  COMTE", True),
        ("4.6 percent", "46 percent", False),
        ("Feta?", "Feta!", True),
        ("Feta", "Brie", False),
    ],
)
def test_canonical(a, b, same):
    assert (canonical(a) == canonical(b)) is same


# --------------------------------------------------------------------------------------- the schema
@pytest.mark.parametrize(
    "change, reason",
    [
        ({"answer": "Feta comes from"}, "answer: stops in mid-sentence: 'Feta comes from'"),
        ({"answer": ""}, "answer: has 0 characters, expected 8 to 1500"),
        ({"answer": None}, "answer: expected text, got NoneType"),
        ({"answer": float("nan")}, "answer: expected text, got float"),
        ({"answer": ["a"]}, "answer: expected text, got list"),
        ({"question": "Who?"}, "question: has 4 characters, expected 8 to 400"),
        ({"answer": "Feta is from {value}."}, "answer: holds a placeholder"),
        ({"answer": "[Insert fact here]."}, "answer: holds a placeholder"),
        ({"answer": "As an AI, I like Feta."}, "answer: speaks as a language model"),
        (
            {"answer": 'Greece.", "question": "What?'},
            "answer: holds a piece of JSON: two pairs ran together",
        ),
        ({"answer": "Where is Feta from."}, "answer: repeats the question"),
        ({"answer": "Feta. " * 300}, "answer: has 1799 characters, expected 8 to 1500"),
    ],
)
def test_each_reason(change, reason):
    with pytest.raises(ValueError, match="^" + re.escape(reason)):
        validate({**PAIR, **change})


@pytest.mark.parametrize(
    "end",
    [
        ".",
        "!",
        "?",
        '."',
        "!)",
        ".’",
        ".”",
        "! 🧀",
        " 🧀",
        "!…",
        "?!",
        " *so!*",
        " :)",
        "! ;-)",
        "。",
    ],
)
def test_sentence_ends(end):
    assert validate({**PAIR, "answer": "It is easy" + end}).answer.endswith(end)


@pytest.mark.parametrize("mark", ["\u200e", "\u200f", "\u202c", "\u200b", "\ufeff", "\u2069"])
def test_an_invisible_mark_behind_the_end_is_taken_off(mark):
    assert validate({**PAIR, "answer": "It is easy!" + mark}).answer == "It is easy!"


@pytest.mark.parametrize(
    "text", ["It is", "It is…", "It is ...", "...", "…", "It is so:", "", "(it)"]
)
def test_no_sentence_ends_here(text):
    assert not ends_as_sentence(text)


def test_missing_fields_are_named():
    with pytest.raises(ValueError, match="^answer: Field required$"):
        validate({"question": PAIR["question"]})
    with pytest.raises(ValueError, match=r"no question and no answer among the fields title, body"):
        validate({"title": "Feta", "body": "A cheese."})
    with pytest.raises(ValueError, match=r"\(none\)"):
        validate({})


def test_other_names_of_the_fields():
    for names in [
        ("q", "a"),
        ("Prompt", " response "),
        ("user", "assistant"),
        ("instruction", "output"),
    ]:
        assert validate(dict(zip(names, PAIR.values()))) == validate(PAIR)
    alpaca = {
        "instruction": "Shorten this.",
        "input": "Feta is a brined cheese.",
        "output": "Feta is brined.",
    }
    assert validate(alpaca).question == "Shorten this. Feta is a brined cheese."
    assert named_fields({"question": "A", "prompt": "B"})["question"] == "A", (
        "our own name goes first"
    )
    assert named_fields({"question": "A", "input": ["no", "text"], "answer": 3}) == {
        "question": "A",
        "answer": 3,
    }


def test_one_bad_pair_never_costs_the_batch():
    pairs, refused = sift([PAIR, {"answer": 1}, PAIR, {}])
    assert len(pairs) == 2 and [piece.text for piece in refused] == ['{"answer": 1}', "{}"]
    assert all(piece.reason for piece in refused)


def test_fault_box_takes_any_reader():
    assert isinstance(fault_box.faults()[0], Fault)
    assert totals(measure(lambda *_: []))["kept"] == 0


# ----------------------------------------------------------------------------- names of fields, ids
@pytest.mark.parametrize(
    "name, field",
    [
        ("Question", "question"),
        ("question_text", "question"),
        ("Q1", "question"),
        ("Réponse", "answer"),
        ("ΑΠΆΝΤΗΣΗ", "answer"),
        ("factId", "fact_id"),
        ("Card ID", "fact_id"),
        ("id", "hint"),
        ("answer_type", ""),
        ("topic", ""),
        ("", ""),
    ],
)
def test_names_of_fields(name, field):
    assert field_of(name)[0] == field


@pytest.mark.parametrize(
    "said, card",
    [
        ("Feta/milk", "Feta/milk"),
        ("[Feta/milk]", "Feta/milk"),
        ("[Feta/milk] Feta is made from milk.", "Feta/milk"),
        ("feta / MILK", "Feta/milk"),
        ("comte_region", "Comté/region"),
        ("card: casein isoelectric", "casein-isoelectric"),
        ("Feta", ""),
        ("Brie/milk", ""),
        ("", ""),
    ],
)
def test_ids_are_held_against_the_cards_that_were_asked(said, card):
    assert match_card(said, ("Feta/milk", "Comté/region", "casein-isoelectric")) == card


def test_an_id_that_two_cards_could_mean_means_none():
    assert match_card("a b", ("a/b", "a-b")) == "" and match_card("a-b", ("a/b", "a-b")) == "a-b"


def test_the_scores_of_the_box(capsys):
    """Printed with `pytest -s`: for each group the replies, whole pairs kept, pairs accepted that
    are none; and the rows with the cards that a build gives them.
    """
    outcomes = measure()
    with capsys.disabled():
        for group in dict.fromkeys(fault.group for fault in faults()):
            own = [outcome for outcome in outcomes if outcome.fault.group == group]
            score = totals(own)
            print(
                f"\n{group:14} {len(own):3} replies, {score['kept']:3} of {score['whole']:3} kept, "
                f"{score['wrong']} wrongly accepted",
                end="",
            )
    assert all(outcome.right for outcome in outcomes)


ITEM = {"question": "Where is Feta from?", "answer": "Feta comes from Greece."}


@pytest.mark.parametrize(
    "reply, n",
    [
        ({"card": "Feta/milk", "pair": list(ITEM.values())}, 1),
        ({"Feta/milk": [ITEM]}, 1),
        ([{"fact_id": "Feta/milk", "qa": ITEM}], 1),
        ([{**ITEM, "more": [{**ITEM, "question": "And where is Feta from?"}]}], 2),
        ({"choices": [{"message": {"role": "assistant", "content": json.dumps([ITEM])}}]}, 1),
        ({"pairs": [ITEM], "tags": ["a", "b"], "notes": {"x": "y"}}, 1),
    ],
)
def test_rows_are_found_by_walking(reply, n):
    assert len(read_pairs(json.dumps(reply))) == n


@pytest.mark.parametrize(
    "text",
    [
        '[{"question": """Where is Feta from?""", "answer": """Feta comes from Greece."""}]',
        '[{"question": "Where is "\n  "Feta from?", "answer": "Feta comes "\n  "from Greece."}]',
        '{"question": "Where is Feta from?", "answer": "Feta comes from Greece."}<|im_end|>',
        'pairs = [{"question": "Where is Feta from?", "answer": "Feta comes from Greece."}];',
    ],
)
def test_no_quote_of_the_dress_stays_in_a_text(text):
    assert [(pair.question, pair.answer) for pair in read_pairs(text)] == [tuple(ITEM.values())]
