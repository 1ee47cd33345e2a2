"""`python3 -m lab_utils pavlos --offline`, or `--model NAME`: from nothing to the dataset, and on
from where it stopped.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from lab_utils.files import RUNS, LabKitError
from lab_utils.pavlos import FOLDER
from lab_utils.pavlos.card import dataset_card
from lab_utils.pavlos.facts import all_facts
from lab_utils.pavlos.generation import RawReplies, Record, Tally, generate
from lab_utils.pavlos.pipeline import Built, build, facts_by_id, write
from lab_utils.pavlos.prompt import system_prompt
from lab_utils.pavlos.rubric import load_rubric
from lab_utils.pavlos.sources import TemplateAsker, template_jobs
from lab_utils.pavlos.topics import grid_jobs


def template_replies(
    folder: Path, seed: int = 0, progress: bool = True
) -> tuple[list[Record], Tally]:
    """The replies of the templates, kept in `folder/raw/template.jsonl`: those of this seed, and
    how the asking ended.
    """
    raw, jobs = RawReplies(folder / "raw" / "template.jsonl"), template_jobs(facts_by_id(), seed)
    tally = generate(jobs, TemplateAsker(seed), raw, "template", system_prompt(), progress=progress)
    return [r for r in raw.records.values() if r["sample"] == seed], tally


def gemini_replies(
    folder: Path, model: str, seed: int, calls: int | None, budget: float
) -> tuple[list[Record], Tally]:
    """The replies of a Gemini model, kept in `folder/raw/gemini.jsonl`. Raises LabKitError where
    there is no usable key.
    """
    from lab_utils.gemini import client as gemini

    raw = RawReplies(folder / "raw" / "gemini.jsonl")
    try:
        client = gemini.connect(
            model=model, ledger=gemini.Ledger(budget, path=folder / "raw" / "ledger.jsonl")
        )
    except gemini.GeminiError as error:
        raise LabKitError(
            f"{error}\nWithout a key: python3 -m lab_utils pavlos --offline"
        ) from None
    tally = generate(
        grid_jobs(all_facts(), seed),
        client,
        raw,
        f"gemini/{model}",
        system_prompt(),
        limit=calls,
        stop_on=(gemini.QuotaExhausted, gemini.BudgetSpent, gemini.KeyProblem),
        skip_on=(gemini.GeminiError,),
        when=time.strftime("%Y-%m-%d"),
    )
    return [
        r for r in raw.records.values() if r["source"] == f"gemini/{model}" and r["sample"] == seed
    ], tally


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
    write(built, folder, dataset_card(built.report, judged_rows(built)))
    return built


def said(source: str, tally: Tally) -> str:
    """One line about how the asking ended."""
    line = f"{source}: {tally.asked} calls made, {tally.reused} replies were there"
    line += f", {len(tally.failed)} calls failed (first: {tally.failed[0]})" if tally.failed else ""
    return line + (
        f"\nstopped: {tally.stopped}. All replies so far are kept; the same command goes on."
        if tally.stopped
        else ""
    )


def run(args: argparse.Namespace) -> int:
    """The command: ask, build, write, and say what came of it. Returns the exit code, 1 where the
    asking ended early.
    """
    folder, records, stopped = args.out or RUNS / "05" / "pavlos", [], False
    if args.offline:
        replies, tally = template_replies(folder, args.seed)
        records += replies
        print(said("template", tally))
    if args.model:
        replies, tally = gemini_replies(folder, args.model, args.seed, args.calls, args.budget)
        records, stopped = records + replies, bool(tally.stopped)
        print(said(f"gemini/{args.model}", tally))
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
    return int(stopped)
