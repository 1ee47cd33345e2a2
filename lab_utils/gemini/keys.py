"""Being let in: a Gemini API key, or the credentials of a Google Cloud project.

A key is a SecretStr from the moment it is found, since a traceback can show every value in every
frame (`%xmode Verbose`). Both SDKs print a key with a line break or a typographic quote in full, in
their errors: a key that cannot be one must never reach them.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab_utils.files import KEY_NAMES
from lab_utils.gemini.errors import KeyProblem, WrongUse

if TYPE_CHECKING:  # a command imports this module before anything is installed
    from pydantic import SecretStr

SCOPES = ["https://www.googleapis.com/auth/cloud-platform"]


@dataclass(frozen=True)
class Access:
    """What an SDK needs to be let in: `key` for the Gemini API, or else `project`, `location` and
    `credentials` for Google Cloud (Vertex AI, now called Agent Platform).
    """

    key: SecretStr | None = None
    project: str = ""
    location: str = "global"
    credentials: Any = None
    base_url: str | None = None  # another address than the service's own, for a proxy or a test

    def __repr__(self) -> str:
        return f"Access({f'{self.project}, {self.location}' if self.project else 'an API key'})"


def as_secret(text: SecretStr | str | None) -> SecretStr | None:
    """The text in a wrapper that shows no value when it is printed; None for nothing at all."""
    from pydantic import SecretStr

    return SecretStr(text) if isinstance(text, str) and text else text or None


def key_flaw(key: SecretStr, source: str) -> tuple[str, str] | None:
    """(kind, message) of what keeps this from being a key, without a character of it; None for a
    good one. It returns, and does not raise, so that no traceback leads to its plain text.
    """
    text = key.get_secret_value().strip()
    bad = re.search(r"[^A-Za-z0-9._-]", text)
    if not text:
        return "no key", f"{source} is empty"
    if bad:
        return "dirty key", (
            f"{source} holds the character U+{ord(bad[0]):04X} at place {bad.start() + 1} of "
            f"{len(text)}; a key has only letters, digits, '-', '_' and '.'. Copy it again, "
            "without quotes"
        )
    if not text.startswith(("AIza", "AQ.")) or len(text) < 20:
        return "dirty key", (
            f"{source} holds {len(text)} characters that are no key: keys start with AIza or AQ., "
            "and are longer than 20 characters. Copy the whole key, and only the key"
        )
    return None


def clean_key(key: SecretStr | str, source: str) -> SecretStr:
    """The key without white space around it; `source` says in a message where it came from.

    KeyProblem if it cannot be a key ("dirty key"), or is empty ("no key").
    """
    from pydantic import SecretStr

    key = key if isinstance(key, SecretStr) else SecretStr(key)
    if flaw := key_flaw(key, source):
        raise KeyProblem(*flaw)
    return SecretStr(key.get_secret_value().strip())


def colab_secret(name: str) -> SecretStr | None:
    """A secret of Colab's key panel; None outside Colab and where the notebook may not read it."""
    try:
        from google.colab import userdata

        return as_secret(userdata.get(name))
    # not Colab, no such secret, no access, timeout: all mean that there is none to be had
    except Exception:
        return None


def environment_secret(name: str) -> SecretStr | None:
    """An environment variable as a secret, or None where it is not set or empty."""
    return as_secret(os.environ.get(name))


def typed_secret(ask: Callable[[str], str] | None) -> SecretStr | None:
    """What somebody types, or None where nobody is asked or can type."""
    with contextlib.suppress(Exception):  # a notebook that is run by a program has nobody to ask
        return as_secret(ask("Gemini API key (not shown): ")) if ask else None
    return None


def find_key(ask: Callable[[str], str] | None = getpass.getpass) -> SecretStr:
    """The key: from Colab's secrets, then the environment, then asked for. `ask=None` never asks.

    KeyProblem "no key" if there is none, "dirty key" if the first one found cannot be a key.
    """
    places = (("Colab's secret", colab_secret), ("the environment variable", environment_secret))
    for place, read in places:
        for name in KEY_NAMES:
            if found := read(name):
                return clean_key(found, f"{place} {name}")
    if found := typed_secret(ask):
        return clean_key(found, "what was typed")
    raise KeyProblem(
        "no key",
        f"set {KEY_NAMES[0]} in Colab's secrets or in the environment; "
        "keys are made at https://aistudio.google.com/apikey",
    )


# ------------------------------------------------------------------------------------- Google Cloud
def find_credentials(given: Any = None) -> Any:
    """Google Cloud credentials: those given, a service account's key file (a path), or the user's
    own (GOOGLE_APPLICATION_CREDENTIALS, `gcloud auth application-default login`, Colab).

    KeyProblem "no credentials" where there are none, "bad credentials" for a file that is none.
    """
    if given is not None and not isinstance(given, str | Path):
        return given
    import google.auth
    from google.oauth2 import service_account

    problem: tuple[str, str]
    try:
        if given:
            return service_account.Credentials.from_service_account_file(given, scopes=SCOPES)
        return google.auth.default(scopes=SCOPES)[0]
    except OSError as error:
        problem = "bad credentials", f"{given or 'the credentials file'}: {error.strerror}"
    except (ValueError, KeyError):
        problem = "bad credentials", f"{given or 'the credentials file'} is no service account key"
    except google.auth.exceptions.GoogleAuthError:
        problem = (
            "no credentials",
            "give a service account's key file (--credentials), run `gcloud auth "
            "application-default login`, or in Colab `from google.colab import auth; "
            "auth.authenticate_user()`",
        )
    raise KeyProblem(*problem)


def access(
    key: SecretStr | str | None = None,
    project: str = "",
    location: str = "global",
    credentials: Any = None,
    base_url: str | None = None,
) -> Access:
    """How to be let in: with a project its credentials are looked for, without one a key.

    KeyProblem where there is none or a dirty one; WrongUse for a key and a project together.
    """
    key = as_secret(key)
    if key and project:
        raise WrongUse("give a key for the Gemini API or a project of Google Cloud, not both")
    if project:
        return Access(None, project, location, find_credentials(credentials), base_url)
    return Access(clean_key(key, "the key given") if key else find_key(), base_url=base_url)
