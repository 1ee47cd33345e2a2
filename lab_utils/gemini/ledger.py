"""What Gemini costs: the table of models and prices, and a ledger with a hard budget."""

from __future__ import annotations

import json
import re
import secrets
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from lab_utils.files import DATA, append_jsonl, read_appended
from lab_utils.gemini.errors import BudgetSpent, GeminiError

# dollars per million training tokens, for the examples of lab 08: what the tutorial's README
# (https://github.com/dlops-io/llm-finetuning) says of Gemini 1.5 Flash, which is retired
EXAMPLE_TUNING_PRICE = 8.00
PRICES = DATA / "reference" / "gemini_prices.json"
MILLION = 1e6


class Price(NamedTuple):
    """One model of the table: its prices in dollars per million tokens, as somebody read them on a
    day, and until when the service offers it. An input: prices change. None where none was found.
    """

    input: float | None
    output: float | None  # what the model thinks is output, too
    tuning: float | None = None  # per million training tokens
    date: str = ""
    source: str = ""
    tunable: bool = False
    retired_on: str = ""  # YYYY-MM-DD; "" while the service names no day
    replacements: tuple[str, ...] = ()  # what the service says to take in its place
    serving: Mapping[str, str] = {}  # tuning region -> the region that serves the tuned model
    lowest_thinking: str | int = ""  # a thinking level, or for Gemini 2.5 a budget in tokens


def load_prices(path: Path = PRICES) -> dict[str, Price]:
    """Model name -> Price. The table that ships says for every figure where and when it was read,
    and has null where none was found: replace it by your own.
    """
    table = json.loads(path.read_text(encoding="utf-8"))["models"]
    return {
        name: Price(**{**row, "replacements": tuple(row.get("replacements", ()))})
        for name, row in table.items()
    }


def plain_name(model: str) -> str:
    """A model's name without "models/" or the like in front, and without a version such as -001."""
    return re.sub(r"-\d{3}$", "", model.rpartition("/")[2])


def price_of(model: str, prices: Mapping[str, Price]) -> Price:
    """The price of a model, "models/" and a version such as -001 left off. GeminiError "no price"
    if the table has none.
    """
    price = prices.get(model) or prices.get(plain_name(model))
    if price and price.input is not None and price.output is not None:
        return price
    raise GeminiError(
        "no price",
        f"{model} is not in the price table ({', '.join(prices) or 'empty'}), so no budget can be "
        "kept. Give its price: Ledger(budget, prices={model: Price(input, output)})",
    )


def given_price(text: str) -> Price:
    """The price that somebody types: "0.30/2.50" is input and output in dollars per million tokens,
    "0/0" a free tier. ValueError for anything else.
    """
    numbers = [float(part) for part in text.replace("$", "").split("/")]
    if len(numbers) != 2 or min(numbers) < 0:
        raise ValueError(f"a price is input/output in dollars, such as 0.30/2.50; got {text!r}")
    return Price(*numbers, None, time.strftime("%Y-%m-%d"), "given by hand")


def most_of_a_call(price: Price, prompt: str, max_output_tokens: int) -> float:
    """Dollars that a call can cost at most, with all that the model may think: a token is at least
    one byte, so the prompt's bytes bound its tokens.
    """
    return (len(prompt.encode()) * price.input + max_output_tokens * price.output) / MILLION


def refuse_retired(model: str, prices: Mapping[str, Price], today: str = "") -> None:
    """GeminiError "retired" with the models to take instead, if the table says that the model is
    gone. `today` is YYYY-MM-DD, by default the day it is.
    """
    row, today = prices.get(plain_name(model)), today or time.strftime("%Y-%m-%d")
    if row and row.retired_on and row.retired_on <= today:
        raise GeminiError(
            "retired",
            f"the service has retired {model} on {row.retired_on}. "
            f"Take {' or '.join(row.replacements) or 'another model'}",
        )


class Ledger:
    """Every call with its tokens and cost, against a hard budget in dollars.

    Before a call the most that it can cost is written down as spent; afterwards the true cost takes
    its place, or nothing if the service refused. A call that was killed or broke off stays at its
    most. With `path` each line is kept (JSON lines, appended), so that the budget outlives a
    kernel; two programs at once may overrun it by a call.
    """

    def __init__(
        self, budget: float, prices: Mapping[str, Price] | None = None, path: Path | None = None
    ):
        self.budget, self.path = budget, path
        self.prices = load_prices() if prices is None else prices
        self._entries: dict[str, dict[str, Any]] = {}
        self._lock = threading.Lock()
        self._catch_up()

    def _catch_up(self) -> None:
        """Read what was written since, by us or by another program."""
        for entry in read_appended(self.path) if self.path else ():
            self._entries.setdefault(entry["id"], {}).update(entry)

    def _write(self, **entry: Any) -> None:
        if self.path:
            append_jsonl(self.path, entry)
        self._entries.setdefault(entry["id"], {}).update(entry)

    def reserve(self, model: str, prompt: str, max_output_tokens: int) -> str:
        """Write down the most a call can cost; returns its id. BudgetSpent, and nothing written, if
        that is too much.
        """
        most = most_of_a_call(price_of(model, self.prices), prompt, max_output_tokens)
        with self._lock:
            self._catch_up()
            left = self.budget - self.spent
            if most > left:
                raise BudgetSpent(
                    "budget",
                    f"the next call can cost up to ${most:.6f}, and ${max(left, 0):.6f} of "
                    f"${self.budget:.2f} is left. Raise the budget, or ask for fewer "
                    "max_output_tokens",
                )
            entry_id, now = secrets.token_hex(6), time.strftime("%Y-%m-%dT%H:%M:%S")
            self._write(id=entry_id, state="sent", model=model, cost=most, time=now)
        return entry_id

    def settle(self, entry_id: str, prompt_tokens: int, output_tokens: int) -> None:
        """The call was answered, and this is what it cost."""
        price = price_of(self._entries[entry_id]["model"], self.prices)
        tokens = {"prompt_tokens": prompt_tokens, "output_tokens": output_tokens}
        cost = (prompt_tokens * price.input + output_tokens * price.output) / MILLION
        with self._lock:
            self._write(id=entry_id, state="paid", cost=cost, **tokens)

    def release(self, entry_id: str) -> None:
        """The service did not answer the call, and bills nothing."""
        with self._lock:
            self._write(id=entry_id, state="free", cost=0.0)

    @property
    def entries(self) -> list[dict[str, Any]]:
        """A copy of all calls, oldest first: state "paid", "free" or "sent" (it may have been
        billed; at its most).
        """
        return [dict(entry) for entry in self._entries.values()]

    @property
    def spent(self) -> float:
        """Dollars; where it is not known whether a call was billed, the most that it can have
        cost.
        """
        return sum(entry["cost"] for entry in self._entries.values())

    def __str__(self) -> str:
        paid = [entry for entry in self._entries.values() if entry["state"] == "paid"]
        unsure = sum(entry["state"] == "sent" for entry in self._entries.values())
        tokens = sum(entry["prompt_tokens"] + entry["output_tokens"] for entry in paid)
        text = f"{len(paid)} calls, {tokens:,} tokens, ${self.spent:.4f} of ${self.budget:.2f}"
        return text + (f" ({unsure} more may have been billed)" if unsure else "")
