"""Options of the commands that ask Gemini: whom, with which credentials, and at what price."""

from __future__ import annotations

import argparse
from pathlib import Path

from lab_utils.gemini import client
from lab_utils.gemini.ledger import Ledger, Price, given_price, load_prices


def add_place(parser: argparse.ArgumentParser) -> None:
    """Where to ask, with what credentials, and at which price."""
    add = parser.add_argument
    add("--project", default="", help="ask in this project of Google Cloud")
    add("--location", default="", help="a region of Google Cloud")
    add("--credentials", help="a service account's key file; without it the user's own")
    add("--base-url", help="another address of the service")
    add("--price", type=given_price, help="input/output in dollars per million tokens: 0.30/2.50")


def add_asking(parser: argparse.ArgumentParser) -> None:
    """`add_place`, and which of the two SDKs asks, or that nothing is charged."""
    parser.add_argument("--sdk", default="google-generativeai", choices=client.SDKS)
    parser.add_argument("--free", action="store_true", help="a free tier: every call costs nothing")
    add_place(parser)


def connect_as_asked(args: argparse.Namespace, budget: float, record: Path) -> client.Gemini:
    """A client as the options of `add_asking` and `--model` say. Its ledger is kept in `record`.

    GeminiError as `client.connect`: with --project the credentials are looked for, else a key.
    """
    price = Price(0.0, 0.0) if args.free else args.price
    prices = load_prices() | ({args.model: price} if price else {})
    return client.connect(
        ledger=Ledger(budget, prices, record),
        sdk=args.sdk,
        model=args.model,
        base_url=args.base_url,
        project=args.project,
        location=args.location or "global",
        credentials=args.credentials,
    )
