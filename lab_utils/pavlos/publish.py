"""To the disk and out into the world: the exports, the dataset card, and the command that does all.

`python3 -m lab_utils pavlos --offline`, or `--model NAME`: from nothing to the dataset, and on from
where it stopped. The exports are the formats that trainers and services read, all from the same
rows; nothing is added but a frame. Every number of the card comes from the build's report.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from lab_utils.files import RUNS, LabKitError, write_text
from lab_utils.gemini.rows import as_gemini
from lab_utils.pavlos import COLUMNS, FOLDER, write_pairs
from lab_utils.pavlos.ask import (
    RawReplies,
    Record,
    Tally,
    TemplateAsker,
    WithSchema,
    generate,
    grid_jobs,
    shortfall,
    system_prompt,
    template_jobs,
)
from lab_utils.pavlos.build import Built, build, facts_by_id, read_reply
from lab_utils.pavlos.corpus import persona
from lab_utils.pavlos.facts import SPLITS, Fact, all_facts
from lab_utils.pavlos.judge import CRITERIA, load_rubric, rubric_shares
from lab_utils.pavlos.written import compared, counts, load_written

# errors that the next call would meet again
HOPELESS = {"no price", "retired", "not found", "no model", "wrong use"}


# ========================================================================================= exports
ABOUT_WRITTEN = {
    "instruction": "the question",
    "context": "0 to 5 notes: sentences of our fact cards, word for word",
    "output": "the answer",
    "fact_ids": "the facts that the notes state",
    "kind": "what the question is about",
    "source": "`written`",
    "split": "train, validation or test",
}
Row = dict[str, str]


def as_messages(row: Row, system: str | None = None) -> dict[str, Any]:
    """Hugging Face chat format, one `messages` list: what TRL's SFTTrainer puts through the model's
    own chat template.
    """
    start = [{"role": "system", "content": system}] if system else []
    return {
        "messages": [
            *start,
            {"role": "user", "content": row["question"]},
            {"role": "assistant", "content": row["answer"]},
        ]
    }


def as_completion(row: Row, system: str | None = None) -> dict[str, Any]:
    """`prompt` and `completion` as plain text; a system text goes in front of the prompt."""
    return {
        "prompt": f"{system}\n\n{row['question']}" if system else row["question"],
        "completion": row["answer"],
    }


FORMATS: dict[str, Callable[[Row, str | None], dict[str, Any]]] = {
    "messages": as_messages,
    "prompt_completion": as_completion,
    "gemini_tuning": as_gemini,
}


def csv_text(rows: Sequence[Row]) -> str:
    """A table with a header. Cells that a spreadsheet would take for a formula are given as they
    are: no row begins so.
    """
    file = io.StringIO()
    writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def export(splits: dict[str, list[Row]], folder: Path, system: str | None = None) -> list[Path]:
    """Write every split in every format below `folder`: `csv/train.csv`, `messages/train.jsonl` and
    so on.
    """
    written = []
    for split, rows in splits.items():
        texts = {Path("csv", f"{split}.csv"): csv_text(rows)} if rows else {}
        for name, frame in FORMATS.items():
            lines = [json.dumps(frame(row, system), ensure_ascii=False) + "\n" for row in rows]
            texts[Path(name, f"{split}.jsonl")] = "".join(lines)
        for path, text in texts.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            write_text(folder / path, text)
            written.append(folder / path)
    return written


# ======================================================================================== the card
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
    "`lab_utils/pavlos/ask.py`",
}


def size_category(n: int) -> str:
    """The Hub's name for a dataset of n rows."""
    for top, name in ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K")):
        if n < top:
            return name
    return "100K<n<1M"


def front_matter(rows: int, digest: str) -> str:
    """The YAML that the Hub and `datasets` read. `datasets` keeps a copy of what it loads under the
    YAML, not under the files: without the rows' digest it would give old rows for new ones.
    """
    files = "\n".join(
        f"  - split: {split}\n    path: {split}.jsonl" for split in ("train", "validation", "test")
    )
    return (
        "---\nlicense: mit\nlanguage: en\npretty_name: Pavlos\ntask_categories:\n- "
        f"question-answering\n- text-generation\nsize_categories:\n- {size_category(rows)}\n"
        f"configs:\n- config_name: default\n  description: rows {digest}\n  data_files:\n{files}\n"
        "---\n"
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
    n_unread = len(report["flagged"].get("unchecked", ()))
    unread = f", {n_unread} remarks on what no program can check in a row" if n_unread else ""
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
        f"{len(report['flagged']['language'])} rows for their language{unread} (`report.json`)."
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


def second_edition(built: Built) -> str:
    """The written edition beside this build's template rows, or "" where it has none."""
    rows = [row for split in built.splits.values() for row in split if row["source"] == "template"]
    if not rows:
        return ""
    written = load_written()
    many = counts(written)
    lines = [
        (
            f"`{name}`",
            f"{told['pairs']:,}",
            f"{told['words']:.1f}",
            *(f"{told[f'distinct_{n}']:.3f}" for n in range(1, 5)),
            f"{told['marks']:.0%}",
        )
        for name, told in compared(
            [row["answer"] for row in rows], [row["output"] for row in written]
        ).items()
    ]
    header = ("edition", "pairs", "words each", *(f"distinct-{n}" for n in range(1, 5)), "voice")
    columns = [(f"`{name}`", text) for name, text in ABOUT_WRITTEN.items()]
    kinds = ", ".join(f"{kind} {n}" for kind, n in sorted(many["kind"].items()))
    splits = ", ".join(f"{split} {many['split'][split]}" for split in SPLITS)
    return f"""
## A second edition: written
`written.jsonl` holds {len(written):,} more pairs, composed one by one for this kit and not from \
templates: questions as
people ask them, answers of 30 to 90 words without a fixed frame. Kinds: {kinds}.
The rows of the kind `unknown` have notes that do not hold the answer, or none, and Pavlos says so.

```python
written = load_dataset("json", data_files="data/pavlos/written.jsonl", split="train")
```

{table(("column", "what it holds"), columns)}

Rows: {splits}; a cheese or topic stands in the same split as above. A program reads each answer
sentence by sentence: what it says of a cheese, and each number, must stand in the notes. It cannot
check general kitchen sense (wrap it in paper, take it out of the cold in time), which has no card.

{table(header, lines)}

Measured on answers: distinct-n on as many words of each edition, voice as the share with two of the
three marks.
"""


def dataset_card(report: dict[str, Any], judged: Sequence[Row] = (), second: str = "") -> str:
    """The whole README.md. `second` is the section about the written edition."""
    forms = {"train": "those of training"} if "template" in report["sources"] else {}
    splits = table(
        ("split", "rows", "question forms of the templates"),
        [
            (name, f"{n:,}", forms.get(name, "held out") if forms else "none")
            for name, n in report["splits"].items()
        ],
    )
    yaml = front_matter(report["rows"], report["digest"])
    return f"""{yaml}# Pavlos: cheese facts in a professor's voice

Questions about cheese and dairy science, answered by Pavlos, an exuberant Greek professor who \
became a cheesemonger: he
welcomes everybody three times over, finds every question golden, and swears that it is all easy. \
The set is made to show
fine-tuning at work: a model that knows the facts but not the voice learns the voice, and must \
keep the facts.

```python
from datasets import load_dataset

pairs = load_dataset("data/pavlos")  # or the folder of your own build; no code of this repository\
 is needed
```

{report["rows"]:,} pairs about {report["facts"]:,} facts.

## Columns
{table(("column", "what it holds"), [(f"`{name}`", ABOUT_COLUMNS[name]) for name in COLUMNS])}

## Splits
{splits}

The split is by subject: whatever is said of one cheese, or of one dairy topic, stands in one \
split. So no row of validation
or test has its fact, or another fact of its cheese, in the training rows.

## Where the rows come from
{provenance(report["sources"])}

Seed {report["seed"]}. Every raw reply is kept under `raw/`, one JSON line for each call, keyed by\
 its prompt; the same replies
and the same seed give the same bytes again. `python3 -m lab_utils pavlos --offline` does all of \
it without a key.
The fact cards, `data/cheeses.csv` and `data/dairy_science.csv`, were written from general \
knowledge; where a cell was in
doubt it was left empty, and no row asks for it. Every answer was checked against its card by a \
program: the card's value, no
rival value, no other cheese's name. `persona.json` holds the three signature patterns that \
recognise the voice; two of the
three make it Pavlos, a greeting alone does not.

## Measured
{quality(report)}
{read_by_people(judged)}{second}
## Limits
- Made for teaching. The facts were not checked against the registers of protected names: do not \
label cheese with them.
- One value for each cell. Where a cheese has several milks, textures or partners at table, the \
card names the usual one.
- Templates repeat themselves: compare distinct-2 of questions and answers above. A low loss says \
little here; ask held-out
  questions.
- English only, and mostly European cheeses.
- Pavlos is a caricature of a cheerful man. He stands for nobody.

## Licence
MIT, as the whole kit.
"""


# ===================================================================================== the command
def write(built: Built, folder: Path, card: str, system: str | None = None) -> list[Path]:
    """Write the splits, quarantine, report, card and every export; returns the paths."""
    paths = write_pairs(built.splits, folder)
    lines = "".join(json.dumps(entry, ensure_ascii=True) + "\n" for entry in built.quarantine)
    texts = {
        "quarantine.jsonl": lines,
        "report.json": json.dumps(built.report, indent=1, ensure_ascii=False) + "\n",
        "README.md": card,
    }
    for name, text in texts.items():
        write_text(folder / name, text)
    return [
        *paths,
        *(folder / name for name in texts),
        *export(built.splits, folder / "exports", system),
    ]


def template_replies(
    folder: Path, seed: int = 0, progress: bool = True
) -> tuple[list[Record], Tally]:
    """The replies of the templates, kept in `folder/raw/template.jsonl`: those of this seed, and
    how the asking ended.
    """
    raw, jobs = RawReplies(folder / "raw" / "template.jsonl"), template_jobs(facts_by_id(), seed)
    tally = generate(jobs, TemplateAsker(seed), raw, "template", system_prompt(), progress=progress)
    return [r for r in raw.records.values() if r["sample"] == seed], tally


def given_cards(record: Record, facts: dict[str, Fact]) -> set[str]:
    """The cards of which a reply gave a pair that the gate lets pass."""
    return {row["fact_id"] for row in read_reply(record, facts)[0]}


def gemini_replies(
    folder: Path, args: argparse.Namespace
) -> tuple[list[Record], Tally, Counter[str]]:
    """The replies of a Gemini model, kept in `folder/raw/gemini.jsonl`, how the asking ended, and
    why -> how many pairs are missing. Raises LabKitError where there is no usable key.
    """
    from lab_utils.gemini import client as gemini
    from lab_utils.gemini.options import connect_as_asked

    raw, model, seed = RawReplies(folder / "raw" / "gemini.jsonl"), args.model, args.seed
    try:
        client = connect_as_asked(args, args.budget, folder / "raw" / "ledger.jsonl")
    except gemini.GeminiError as error:
        raise LabKitError(
            f"{error}\nWithout a key: python3 -m lab_utils pavlos --offline"
        ) from None
    jobs, source = grid_jobs(all_facts(), seed), f"gemini/{model}"
    facts = facts_by_id()
    given = lru_cache(maxsize=None)(lambda key: given_cards(raw.records[key], facts))
    tally = generate(
        jobs,
        WithSchema(client),
        raw,
        source,
        system_prompt(),
        limit=args.calls,
        stop_on=(gemini.QuotaExhausted, gemini.BudgetSpent, gemini.KeyProblem),
        skip_on=(gemini.GeminiError,),
        hopeless=lambda error: getattr(error, "kind", "") in HOPELESS,
        given=(lambda record: given(record["key"])) if args.retry_failed else None,
        when=time.strftime("%Y-%m-%d"),
    )
    lacking = shortfall(jobs, raw, source, system_prompt(), lambda r: given(r["key"]))
    records = [r for r in raw.records.values() if r["source"] == source and r["sample"] == seed]
    return records, tally, lacking


def judged_rows(built: Built) -> list[dict[str, str]]:
    """The rows of the shipped rubric, if all of them are rows of this dataset; otherwise it was not
    this one that was read.
    """
    own = {
        (row["fact_id"], row["question"], row["answer"])
        for rows in built.splits.values()
        for row in rows
    }
    judged = load_rubric()[1] if (FOLDER / "rubric.csv").is_file() else []
    return (
        judged
        if all((row["fact_id"], row["question"], row["answer"]) in own for row in judged)
        else []
    )


def build_folder(records: list[Record], folder: Path, seed: int = 0) -> Built:
    """Build the dataset from the replies and write it, its card and its exports into the folder."""
    built = build(records, seed)
    write(built, folder, dataset_card(built.report, judged_rows(built), second_edition(built)))
    return built


def said(source: str, tally: Tally) -> str:
    """One line about how the asking ended."""
    line = f"{source}: {tally.asked} calls made, {tally.reused} replies were there"
    if tally.failed:
        line += f", {len(tally.failed)} calls failed (first: {tally.failed[0]})"
    if tally.stopped:
        line += (
            f"\nstopped: {tally.stopped}. All replies so far are kept; the same command goes on."
        )
    if tally.left:
        line += f"\nlimit of calls reached: {tally.left} are left; the same command goes on."
    return line


def said_missing(lacking: Counter[str]) -> str:
    """One line about the pairs that are missing, and why; "" where none is."""
    reasons = ", ".join(f"{n} {reason}" for reason, n in lacking.most_common())
    return f"{lacking.total()} pairs are missing: {reasons}" if lacking else ""


def run(args: argparse.Namespace) -> int:
    """The command: ask, build, write, and say what came of it. Returns the exit code: 1 where calls
    failed or an error ended the asking, or replies owe pairs that the same command would ask for
    again; 0 also where a limit of calls was reached.
    """
    folder, records, unfinished = args.out or RUNS / "05" / "pavlos", [], False
    if args.offline:
        replies, tally = template_replies(folder, args.seed)
        records += replies
        print(said("template", tally))
    if args.model:
        replies, tally, lacking = gemini_replies(folder, args)
        owed = lacking.keys() - {"not asked for yet", "refused or left out"}
        records, unfinished = records + replies, bool(tally.stopped or tally.failed or owed)
        print(said(f"gemini/{args.model}", tally), said_missing(lacking), sep="\n")
    if not records:
        raise LabKitError("There is no reply yet, so there is nothing to build.")
    try:
        report = build_folder(records, folder, args.seed).report
    except ValueError as error:  # replies without one good pair
        raise LabKitError(str(error)) from None
    print(
        f"{report['replies']} replies -> {report['rows']} pairs; "
        f"{report['refused']} refused, {report['copies']} copies dropped"
    )
    print(", ".join(f"{name} {n}" for name, n in report["splits"].items()), f"pairs in {folder}")
    return int(unfinished)
