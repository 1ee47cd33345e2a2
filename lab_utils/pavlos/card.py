"""The dataset card: what the rows are, where they come from, how good they are. Every number comes
from the build's report.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lab_utils.pavlos import COLUMNS
from lab_utils.pavlos.persona import persona
from lab_utils.pavlos.rubric import CRITERIA, rubric_shares

ABOUT_COLUMNS = {
    "question": "the question; in training now and then as people type: an opener, lower case, no "
    "accents, no question mark",
    "answer": "greeting, aside, the fact as one sentence, closing",
    "fact_id": "the fact that a right answer gives: `Feta/milk`, or the id of a row of "
    "`dairy_science.csv`",
    "kind": "an attribute of a cheese (`country`, `region`, `milk`, ...) or `science`",
    "source": "who wrote the row: `template`, `human`, `colab`, or `gemini/` and the model's name",
}
ABOUT_SOURCES = {
    "template": "no language model took part: a fact card, filled into a question form "
    "(`data/question_forms.json`) and put between pieces of the persona ({greetings} "
    "greetings, {asides} asides and {closings} closings)",
    "human": "written by hand",
    "colab": "written by the language model that Colab offers without a key, from fact cards",
    "gemini": "written by Gemini from fact cards, under the system prompt of "
    "`lab_utils/pavlos/prompt.py`",
}
Row = dict[str, str]


def size_category(n: int) -> str:
    """The Hub's name for a dataset of n rows."""
    for top, name in ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K")):
        if n < top:
            return name
    return "100K<n<1M"


def front_matter(rows: int) -> str:
    """The YAML that the Hub and `datasets` read."""
    files = "\n".join(
        f"  - split: {split}\n    path: {split}.jsonl" for split in ("train", "validation", "test")
    )
    return (
        "---\nlicense: mit\nlanguage: en\npretty_name: Pavlos\ntask_categories:\n- "
        f"question-answering\n- text-generation\nsize_categories:\n- {size_category(rows)}\n"
        f"configs:\n- config_name: default\n  data_files:\n{files}\n---\n"
    )


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A Markdown table."""
    return "\n".join(
        "| " + " | ".join(map(str, row)) + " |" for row in (header, ["---"] * len(header), *rows)
    )


def provenance(sources: dict[str, dict[str, Any]]) -> str:
    """For each source: rows, calls, models, days, and in words what it is."""
    pieces = {part: len(persona()[part]) for part in ("greetings", "asides", "closings")}
    lines = table(
        ("source", "rows", "calls", "model", "days", "tokens"),
        [
            (
                name,
                f"{s['rows']:,}",
                s["calls"],
                "; ".join(s["models"]),
                ", ".join(s["days"]) or "-",
                f"{s['tokens']:,}",
            )
            for name, s in sources.items()
        ],
    )
    words = "\n".join(
        f"- `{name}`: {ABOUT_SOURCES[name.split('/')[0]].format(**pieces)}." for name in sources
    )
    return f"{lines}\n\n{words}"


def quality(report: dict[str, Any]) -> str:
    """What was measured: diversity, coverage, leaks, and what was left out or flagged."""
    told, cells, leak = report["diversity"], report["coverage"], report["leak"]
    diverse = table(
        ("", "distinct-1", "distinct-2", "different texts", "words each"),
        [
            (
                part,
                f"{d['distinct_1']:.3f}",
                f"{d['distinct_2']:.3f}",
                f"{d['different']:.1%}",
                f"{d['words']:.1f}",
            )
            for part, d in told.items()
        ],
    )
    shared = "; ".join(
        f"{what} of held-out rows that are also in training: {share:.1%}"
        for what, share in leak.items()
    )
    return (
        f"{diverse}\n\n- Coverage: {cells['filled']} of {cells['cells']} cells of the grid topic "
        f"x question type x level have a row.\n- Leak: {shared}.\n- Replies: {report['replies']}, "
        f"read by the rungs {', '.join(f'{rung} {n}' for rung, n in report['rungs'].items())}; "
        f"{report['refused']} pairs refused (`quarantine.jsonl`), {report['copies']} exact copies "
        f"dropped.\n- Flagged for a person, and kept: {len(report['flagged']['near_duplicates'])} "
        "pairs of questions as near-duplicates (content-word Jaccard of 0.7 or more), "
        f"{len(report['flagged']['language'])} rows for their language (`report.json`)."
    )


def read_by_people(judged: Sequence[Row]) -> str:
    """The rubric's result, or "" where no row of this dataset was judged."""
    if not judged:
        return ""
    shares = rubric_shares(judged)
    rows = [(name, text, f"{shares[name]:.0%}") for name, text in CRITERIA.items()]
    return (
        f"\n## Read by people\n{len(judged)} rows, drawn by lot, were read one by one "
        "(`rubric.csv` says by whom and how; each 0 has a note).\n\n"
        f"{table(('criterion', 'met where', 'rows'), rows)}\n"
    )


def dataset_card(report: dict[str, Any], judged: Sequence[Row] = ()) -> str:
    """The whole README.md."""
    forms = {"train": "those of training"} if "template" in report["sources"] else {}
    splits = table(
        ("split", "rows", "question forms of the templates"),
        [
            (name, f"{n:,}", forms.get(name, "held out") if forms else "none")
            for name, n in report["splits"].items()
        ],
    )
    return f"""{front_matter(report["rows"])}# Pavlos: cheese facts in a professor's voice

Questions about cheese and dairy science, answered by Pavlos, an exuberant Greek professor who became a cheesemonger: he
welcomes everybody three times over, finds every question golden, and swears that it is all easy. The set is made to show
fine-tuning at work: a model that knows the facts but not the voice learns the voice, and must keep the facts.

```python
from datasets import load_dataset

pairs = load_dataset("data/pavlos")  # or the folder of your own build; no code of this repository is needed
```

{report["rows"]:,} pairs about {report["facts"]:,} facts.

## Columns
{table(("column", "what it holds"), [(f"`{name}`", ABOUT_COLUMNS[name]) for name in COLUMNS])}

## Splits
{splits}

The split is by subject: whatever is said of one cheese, or of one dairy topic, stands in one split. So no row of validation
or test has its fact, or another fact of its cheese, in the training rows.

## Where the rows come from
{provenance(report["sources"])}

Seed {report["seed"]}. Every raw reply is kept under `raw/`, one JSON line for each call, keyed by its prompt; the same replies
and the same seed give the same bytes again. `python3 -m lab_utils pavlos --offline` does all of it without a key.
The fact cards, `data/cheeses.csv` and `data/dairy_science.csv`, were written from general knowledge; where a cell was in
doubt it was left empty, and no row asks for it. Every answer was checked against its card by a program: the card's value, no
rival value, no other cheese's name. `persona.json` holds the three signature patterns that recognise the voice; two of the
three make it Pavlos, a greeting alone does not.

## Measured
{quality(report)}
{read_by_people(judged)}
## Limits
- Made for teaching. The facts were not checked against the registers of protected names: do not label cheese with them.
- One value for each cell. Where a cheese has several milks, textures or partners at table, the card names the usual one.
- Templates repeat themselves: compare distinct-2 of questions and answers above. A low loss says little here; ask held-out
  questions.
- English only, and mostly European cheeses.
- Pavlos is a caricature of a cheerful man. He stands for nobody.

## Licence
MIT, as the whole kit.
"""
