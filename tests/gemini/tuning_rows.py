"""Rows and files of the tuning service's form, for the tests."""

import json

GOOD = {
    "contents": [
        {"role": "user", "parts": [{"text": "Where is Feta made?"}]},
        {"role": "model", "parts": [{"text": "Feta is made in Greece."}]},
    ]
}


def changed(**fields):
    return {**GOOD, **fields}


def turns(*roles):
    return changed(contents=[{"role": role, "parts": [{"text": "text"}]} for role in roles])


def file_of(tmp_path, *lines):
    path = tmp_path / "train.jsonl"
    path.write_bytes(
        b"\n".join(line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines)
        + b"\n"
    )
    return path
