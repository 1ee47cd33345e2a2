"""The tables are clean; every fact is right in its own words, and in almost nobody else's."""

import csv
import random
import re
import unicodedata
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab_utils.files import DATA
from lab_utils.pavlos import facts
from lab_utils.pavlos.corpus import corpus_forms, corpus_statement
from lab_utils.pavlos.facts import all_facts, cheese_facts, contains, is_right, science_facts

CHEESE_COLUMNS = [
    "name",
    "country",
    "region",
    "milk",
    "family",
    "texture",
    "rind",
    "min_ageing_days",
    "protection",
    "flavour",
    "pairing",
]
SCIENCE_COLUMNS = ["fact_id", "topic", "subject", "verb", "value", "unit", "keyword"]
VOCABULARIES = {
    "milk": {
        "cow",
        "sheep",
        "goat",
        "buffalo",
        "cow and sheep",
        "sheep and goat",
        "cow and goat",
        "cow sheep and goat",
    },
    "texture": {"fresh", "soft", "semi-soft", "semi-hard", "hard"},
    "family": set(facts.FAMILY_PHRASES),
    "rind": set(facts.RIND_PHRASES),
    "protection": set(facts.PROTECTION_PHRASES),
}
TOPICS = {
    "milk",
    "microbes",
    "enzymes",
    "process",
    "ripening",
    "defects",
    "storage",
    "tools",
    "history",
    "measures",
}


def read_table(name: str) -> list[list[str]]:
    with open(DATA / name, encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def rows_of(name: str) -> list[dict[str, str]]:
    header, *rows = read_table(name)
    return [dict(zip(header, row, strict=True)) for row in rows]


def fact(fact_id: str) -> facts.Fact:
    return next(f for f in all_facts() if f.fact_id == fact_id)


def plain(text: str) -> str:
    """Lower case, without accents and punctuation: questions that differ only in these count as
    equal.
    """
    ascii_text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return " ".join(re.sub(r"[^a-z0-9 ]", "", ascii_text).split())


# The tables


@pytest.mark.parametrize(
    "name, columns, at_least",
    [("cheeses.csv", CHEESE_COLUMNS, 150), ("dairy_science.csv", SCIENCE_COLUMNS, 100)],
)
def test_table_has_its_columns_and_clean_cells(name, columns, at_least):
    header, *rows = read_table(name)
    assert header == columns
    assert len(rows) >= at_least
    assert [row for row in rows if len(row) != len(columns)] == []
    assert [cell for row in rows for cell in row if cell != cell.strip() or "  " in cell] == []


@pytest.mark.parametrize("column", VOCABULARIES)
def test_cheese_column_keeps_to_its_vocabulary(column):
    assert {row[column] for row in rows_of("cheeses.csv")} - {""} <= VOCABULARIES[column]


def test_cheeses_are_unique_and_each_has_several_facts():
    rows = rows_of("cheeses.csv")
    names = [row["name"] for row in rows]
    assert len({plain(name) for name in names}) == len(names)
    assert [row["name"] for row in rows if sum(map(bool, row.values())) < 5] == []


def test_ageing_is_a_number_of_days_and_flavour_two_words():
    for row in rows_of("cheeses.csv"):
        assert re.fullmatch(r"|[1-9]\d{0,3}", row["min_ageing_days"]), row["name"]
        first, _, second = row["flavour"].partition(" and ")
        assert row["flavour"] == "" or (first and second and first != second), row["name"]


def test_science_ids_subjects_topics_and_verbs():
    rows = rows_of("dairy_science.csv")
    assert len({row["fact_id"] for row in rows}) == len(rows)
    assert len({plain(row["subject"]) for row in rows}) == len(rows)
    assert {row["topic"] for row in rows} == TOPICS
    assert {row["verb"] for row in rows} == {"is", "are", "was", "is called"}


def test_science_keyword_is_in_its_value_and_not_given_away_by_its_subject():
    for row in rows_of("dairy_science.csv"):
        assert contains(f"{row['value']} {row['unit']}", row["keyword"]), row["fact_id"]
        assert not contains(row["subject"], row["keyword"]), row["fact_id"]


def test_every_filled_cell_is_one_fact():
    cells = {
        f"{row['name']}/{'ageing' if column == 'min_ageing_days' else column}"
        for row in rows_of("cheeses.csv")
        for column in CHEESE_COLUMNS[1:]
        if row[column]
    }
    ids = [f.fact_id for f in all_facts()]
    assert set(ids) == cells | {row["fact_id"] for row in rows_of("dairy_science.csv")}
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize(
    "fact_id, statement, keywords",
    [
        ("Feta/milk", "Feta is made from sheep and goat milk.", ("sheep", "goat")),
        ("Comté/ageing", "Comté ages for at least 120 days.", ("120",)),
        (
            "Comté/family",
            "Comté belongs to the family of cooked pressed cheeses.",
            ("cooked pressed cheeses",),
        ),
        ("Gouda/country", "Gouda comes from the Netherlands.", ("netherlands",)),
        ("Brie de Meaux/rind", "Brie de Meaux has a bloomy rind.", ("bloomy rind",)),
        ("Roquefort/protection", "Roquefort carries the PDO label.", ("pdo label",)),
        ("Emmentaler/flavour", "Emmentaler tastes nutty and sweet.", ("nutty", "sweet")),
        ("htst", "The temperature of quick pasteurisation is 72 degrees Celsius.", ("72",)),
    ],
)
def test_statements_read_as_sentences(fact_id, statement, keywords):
    assert fact(fact_id).statement() == statement
    assert fact(fact_id).keywords == keywords


# Right and wrong


def test_every_fact_is_right_in_every_wording_whatever_the_case():
    said = [(f, corpus_statement(f, variant)) for f in all_facts() for variant in (0, 1)]
    said += [(f, f.statement()) for f in all_facts()]
    assert [text for f, text in said if not (is_right(f, text) and is_right(f, text.upper()))] == []


def test_bare_value_is_a_right_answer():
    assert [f.fact_id for f in all_facts() if not is_right(f, f"It is {f.value}.")] == []


@pytest.mark.parametrize("same_kind", [False, True])
def test_statements_dealt_to_the_wrong_fact_are_wrong(same_kind):
    rng, pool = random.Random(0), {}
    for f in all_facts():
        pool.setdefault(f.kind if same_kind else "", []).append(f)
    dealt = [
        (f, other.statement())
        for f in all_facts()
        for other in rng.sample(pool[f.kind if same_kind else ""], 12)
        if other is not f
    ]
    accepted = [(f.fact_id, text) for f, text in dealt if is_right(f, text)]
    assert len(accepted) <= 0.01 * len(dealt), accepted[:20]


def test_another_cheese_never_answers_for_this_one():
    rng, cheeses = random.Random(1), cheese_facts()
    for f in cheeses:
        for other in rng.sample(cheeses, 4):
            if other.subject != f.subject:
                assert not is_right(f, replace(f, subject=other.subject).statement()), (
                    f.fact_id,
                    other.subject,
                )
                assert not is_right(f, f"{f.statement()} So does {other.subject}."), (
                    f.fact_id,
                    other.subject,
                )


def test_rival_values_are_wrong_alone_and_beside_the_right_one():
    rng, by_kind = random.Random(2), {}
    for f in cheese_facts():
        by_kind.setdefault(f.kind, []).append(f)
    for f in cheese_facts():
        for other in rng.sample(by_kind[f.kind], 4):
            if set(other.keywords) != set(f.keywords):
                assert not is_right(f, replace(f, value=other.value).statement()), (
                    f.fact_id,
                    other.value,
                )
            if not set(other.keywords) <= set(f.keywords):
                hedged = replace(f, value=f"{f.value} or {other.value}").statement()
                assert not is_right(f, hedged), (f.fact_id, hedged)


@pytest.mark.parametrize(
    "fact_id, answer, right",
    [
        ("Cantal/family", "Cantal belongs to the family of pressed cheeses.", True),
        ("Cantal/family", "Cantal belongs to the family of cooked pressed cheeses.", False),
        ("Comté/family", "It is one of the cooked pressed cheeses.", True),
        ("Comté/family", "Cooked pressed cheeses or pressed cheeses.", False),
        ("Brie de Meaux/texture", "The texture is semi-soft.", False),
        ("Brie de Meaux/texture", "The texture is soft.", True),
        ("Feta/milk", "Feta is made from sheep milk.", False),
        ("Feta/milk", "From goat and sheep milk!", True),
        ("Feta/milk", "From cow, sheep and goat milk.", False),
        ("Comté/ageing", "Comté ages for 1200 days.", False),
        (
            "Emmentaler/milk",
            "Allgäuer Emmentaler is made from cow milk.",
            False,
        ),  # one name inside another
        ("Allgäuer Emmentaler/milk", "Allgäuer Emmentaler is made from cow milk.", True),
        ("Queso Oaxaca/region", "Queso Oaxaca is a cheese.", False),  # the name is not the answer
        ("Queso Oaxaca/region", "queso oaxaca is at home in Oaxaca.", True),
        ("Cheshire/region", "It is at home in Cheshire.", True),
        ("casein-isoelectric", "It is 14.6.", False),
        ("casein-isoelectric", "It is 4.65.", False),
        ("casein-isoelectric", "It is 4.6.", True),
        ("cell-limit", "It is 400,000 cells.", True),
        ("cell-limit", "It is 1,400,000 cells.", False),
        ("milk-protein-main", "It is kappa-casein.", False),
    ],
)
def test_judged_answers(fact_id, answer, right):
    assert is_right(fact(fact_id), answer) is right


@pytest.mark.parametrize(
    "answer", ["", " ", "I do not know that, I know only cheese.", "cheese cheese cheese"]
)
def test_nothing_said_is_right_for_no_fact(answer):
    assert not any(is_right(f, answer) for f in all_facts())


# Keywords


@pytest.mark.parametrize(
    "text, keyword, found",
    [
        ("It is 5.", "5", True),
        ("5", "5", True),
        ("5 percent", "5", True),
        ("(5)", "5", True),
        ("1, 5, 9", "5", True),
        ("15", "5", False),
        ("50", "5", False),
        ("5.2", "5", False),
        ("2.5", "5", False),
        ("1,5", "5", False),
        ("5,000", "5", False),
        ("-5", "5", False),
        ("a soft cheese", "soft", True),
        ("SOFT!", "soft", True),
        ("semi-soft", "soft", False),
        ("softer", "soft", False),
        ("soft-ripened", "soft", False),
        ("cow's milk", "cow", True),
        ("Île-de-France", "île-de-france", True),
        ("Île-de-France", "france", False),
    ],
)
def test_keywords_are_whole_words_and_whole_numbers(text, keyword, found):
    assert contains(text, keyword) is found


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_a_number_is_found_only_as_itself(said, asked):
    assert contains(f"The answer is {said} days.", str(asked)) is (said == asked)


@settings(deadline=None, max_examples=50)
@given(st.decimals(0, 1000, places=2).map(str), st.integers(0, 1000).map(str))
def test_a_whole_number_is_not_found_in_a_decimal(said, asked):
    assert not contains(f"It is {said}.", asked)


@settings(deadline=None, max_examples=50)
@given(st.text("abcxyz", min_size=1, max_size=6), st.text("abcxyz-", min_size=1, max_size=3))
def test_a_word_is_not_found_in_a_longer_one(word, more):
    assert contains(f"so: {word}, yes", word)
    assert not contains(word + more, word) or word in more
    assert not contains(f"x{word}", word)


@settings(deadline=None, max_examples=50)
@given(st.text(max_size=30))
def test_any_keyword_can_be_looked_for(keyword):
    contains("some text", keyword)  # also one of pattern characters such as "(" or "\\"


# Questions


def test_each_kind_has_its_forms():
    forms = facts.question_forms()
    assert set(forms) == {*facts.CHEESE_ATTRIBUTES, "science"}
    for kind, of_kind in forms.items():
        assert len(of_kind["train"]) == 10 and len(of_kind["held_out"]) == 3, kind


def test_no_held_out_question_is_a_training_question():
    trained = {plain(question) for f in all_facts() for question in f.questions()}
    trained |= {
        plain(f.fill(form)) for f in all_facts() for form in corpus_forms()[f.kind]["questions"]
    }
    held_out = [question for f in all_facts() for question in f.questions(held_out=True)]
    assert [question for question in held_out if plain(question) in trained] == []


def test_each_question_asks_for_one_fact():
    asked: dict[str, str] = {}
    for f in all_facts():
        for question in f.questions() + f.questions(held_out=True):
            assert asked.setdefault(plain(question), f.fact_id) == f.fact_id, question


def test_no_question_is_left_unfilled_or_gives_its_answer_away():
    for f in all_facts():
        for question in f.questions() + f.questions(held_out=True):
            assert "{" not in question and f.subject.lower() in question.lower()
            if f.kind == "science":
                assert not is_right(f, question), question


def test_science_facts_are_said_with_a_capital_and_their_verb():
    for f in science_facts():
        unit_told_before = f.fact_id in ("goat-teats", "mastitis-paddle")
        value = f.keywords[0] if unit_told_before else f.value
        assert f.statement() == f"{f.subject[0].upper()}{f.subject[1:]} {f.verb} {value}."


# ---------------------------------------------------------------------------------------- the gate
def test_no_question_form_and_no_sentence_of_a_fact_is_refused_by_the_gate():
    for one in all_facts():
        for question in (*one.questions(), *one.questions(held_out=True)):
            assert facts.objections(one, question, one.statement()) == [], one


@pytest.mark.parametrize(
    "question, answer, reason",
    [
        ("Where is Feta from?", "Feta does not come from Greece.", "denies"),
        ("Where is Feta from?", "Feta never came from Greece!", "denies"),
        ("Where is Feta from?", "Feta isn’t from Greece.", "denies"),
        ("Where is Feta from?", "It is a myth that Feta comes from Greece.", "denies"),
        ("Where is Feta from?", "Greece is not where Feta comes from.", "denies"),
        ("Where is Feta from?", "Feta comes from anywhere but Greece.", "denies"),
        ("Where is Feta from?", "Feta comes from Greece? Hardly.", "denies"),
        ("Where is Feta from?", "Does it come from Greece? No, Feta does.", "denies"),
        ("Where is Feta from?", "Feta supposedly comes from Greece.", "denies"),
        ("Where is Feta from?", "Feta comes from Greece; that is a rumour.", "denies"),
        ("Where is Feta from?", "It is a lie that Feta comes from Greece.", "denies"),
        ("Where is Feta from?", "Feta used to come from Greece.", "denies"),
        ("Where is Feta from?", "No Feta comes from Greece.", "denies"),
        ("Where is Feta from?", "Feta comes from every country but Greece.", "denies"),
        ("Where is Feta from?", "Feta comes from Greece and ages for ten years.", "number .* ten"),
        ("Where is Feta from?", "Feta comes from Greece and helps against colds.", "cures"),
        ("Where is Feta from?", "Feta comes from Greece, good for your bones.", "cures"),
        ("Where is Feta from?", "Feta comes from Greece, since 1832.", "a number .*: 1832"),
        ("Where is Feta from?", "Feta comes from Greece and cures a cold.", "cures"),
        ("Where is Feta from?", "Feta comes from Greece and from France.", "does not give"),
        ("Where is Feta from?", "Feta comes from Cyprus.", "does not give"),
        ("How far away is Mars?", "Feta comes from Greece.", "does not name Feta"),
        ("Where is Brie from?", "Feta comes from Greece.", "does not name Feta"),
    ],
)
def test_the_gate_refuses(question, answer, reason):
    found = facts.objections(fact("Feta/country"), question, answer)
    assert any(re.search(reason, one) for one in found), found


@pytest.mark.parametrize(
    "question, answer",
    [
        ("Where is Feta from?", "Feta comes from Greece."),
        ("where is feta from", "Do not worry, my friend: Feta comes from Greece!"),
        ("Is Feta from 1832?", "I know no year, but Feta comes from Greece; 1832 is a guess."),
        ("And the Feta?", "It is not hard! Feta comes from Greece, why not taste it?"),
        ("Where is Feta from?", "From where? From Greece! I have known it for years."),
        ("Where is Feta from?", "No other answer: Feta comes from Greece, ask two people."),
    ],
)
def test_the_gate_lets_pass(question, answer):
    assert facts.objections(fact("Feta/country"), question, answer) == []


def test_what_a_program_cannot_judge_is_flagged():
    one, good = fact("Feta/milk"), "Feta is made from sheep and goat milk."
    assert facts.unchecked(one, "Which milk is in Feta?", good) == []
    assert facts.unchecked(one, "Which milk is in Feta?", good + " So they do in France.") == [
        "names a country that is not on the card: france"
    ]
    assert (
        "names another cheese: roquefort"
        in facts.unchecked(one, "Is the milk of Feta that of Roquefort?", good)[0]
    )
    assert facts.unchecked(one, "Is Feta on Mars?", good) == [
        "the question may ask for something else than the milk"
    ]
