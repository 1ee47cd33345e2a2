"""Arguments and answers as one npz file: named arrays, and a JSON structure that says how they
belong together.

Both sides use it: the grader encodes held-out inputs and decodes answers, the student's side the
other way round. An answer comes from a process that may be hostile, so `decode` believes nothing:
no pickles, no compression (a small file cannot become a large one), no array larger than its bytes,
no type but the ones below.
"""

from __future__ import annotations

import io
import json
import math
import sys
import zipfile
from typing import Any

import numpy as np

STRUCTURE = "structure"
PLAIN = (bool, int, float, str)
NUMBER_KINDS = (
    "biufc"  # NumPy's letters for bool, int, unsigned, float, complex: no objects, no strings
)
MAX_ARRAYS = 5000
MAX_VALUES = 200_000  # in one answer, all depths together
MAX_KEYS = 2_000  # of one dict: keys can be chosen to collide, and then cost their square


class Foreign:
    """Stands for a value that cannot be sent, such as an object of the student's own class. Equal
    to nothing.
    """

    __hash__ = None

    def __eq__(self, other: object) -> bool:
        return False


def encode(value: Any, foreign: bool = False) -> bytes:
    """The value as npz. What has no place in it raises TypeError, or is sent as `Foreign` if that
    is allowed.
    """
    arrays: list[np.ndarray] = []
    structure = json.dumps(_describe(value, arrays, foreign)).encode()
    named = {f"a{i}": array for i, array in enumerate(arrays)}
    file = io.BytesIO()
    np.savez(file, **{STRUCTURE: np.frombuffer(structure, np.uint8)}, **named)
    return file.getvalue()


def decode(data: bytes) -> Any:
    """The value of an npz made by `encode`. ValueError for anything else, whatever is wrong with
    it.
    """
    try:
        arrays = _read_arrays(data)
        structure = arrays.pop(STRUCTURE).tobytes()
        if structure.count(b"{") > MAX_VALUES:
            raise ValueError("too many values")
        return _rebuild(json.loads(structure), arrays)
    except Exception as error:  # a hostile file can fail anywhere in zipfile, NumPy, json or torch
        raise ValueError(f"no answer file: {type(error).__name__}") from None


# ------------------------------------------------------------------------------- value -> structure
def _describe(value: Any, arrays: list[np.ndarray], foreign: bool) -> Any:
    """JSON for a value. Types are compared exactly: a subclass may behave in any way."""
    kind = type(value)
    if value is None or kind in (bool, str, float) or (kind is int and abs(value) < 2**256):
        return {"plain": value}
    if kind in (list, tuple):
        return {kind.__name__: [_describe(item, arrays, foreign) for item in value]}
    if kind is dict:
        return {
            "dict": [[_describe(part, arrays, foreign) for part in item] for item in value.items()]
        }
    if kind is complex:
        return {"complex": [value.real, value.imag]}
    if kind is np.ndarray and value.dtype.kind in NUMBER_KINDS:
        return {"array": _add(value, arrays)}
    if (
        isinstance(value, np.generic)
        and kind.__module__ == "numpy"
        and value.dtype.kind in NUMBER_KINDS
    ):
        return {"scalar": _add(np.asarray(value), arrays)}
    torch = sys.modules.get("torch")
    if torch and kind is torch.dtype:
        return {"dtype": str(value).removeprefix("torch.")}
    if (
        torch
        and kind in (torch.Tensor, torch.nn.Parameter)
        and value.layout is torch.strided
        and value.device.type != "meta"
    ):
        return _describe_tensor(value, arrays)
    if foreign:
        return {"foreign": True}
    raise TypeError(
        f"a value of the type {kind.__name__} cannot be sent as arrays; use numbers, strings, "
        "None, lists, tuples, dicts, NumPy arrays or torch tensors"
    )


def _describe_tensor(tensor: Any, arrays: list[np.ndarray]) -> dict:
    """A tensor as its bytes and dtype: NumPy has no bfloat16 and no 8-bit floats."""
    import torch

    # no strides, no lazy signs
    flat = torch.empty(tensor.shape, dtype=tensor.dtype).copy_(tensor.detach()).reshape(-1)
    data = flat.view(torch.uint8) if len(flat) else torch.empty(0, dtype=torch.uint8)
    return {
        "tensor": _add(data.numpy(), arrays),
        "shape": list(tensor.shape),
        "dtype": str(tensor.dtype).removeprefix("torch."),
        "grad": bool(tensor.requires_grad),
    }


def _add(array: np.ndarray, arrays: list[np.ndarray]) -> str:
    arrays.append(array)
    return f"a{len(arrays) - 1}"


# ------------------------------------------------------------------------------- structure -> value
def _rebuild(structure: dict, arrays: dict[str, np.ndarray]) -> Any:
    """The value that a structure describes; KeyError, TypeError, ValueError for other JSON."""
    (kind, content), *facts = structure.items()
    if kind in ("list", "tuple"):
        return (list if kind == "list" else tuple)(_rebuild(item, arrays) for item in content)
    if kind == "dict":
        if len(content) > MAX_KEYS:
            raise ValueError("too many keys")
        return {_rebuild(key, arrays): _rebuild(value, arrays) for key, value in content}
    if kind == "plain" and (content is None or type(content) in PLAIN):
        return content
    if kind == "complex":
        return complex(*map(float, content))
    if kind == "array":
        return arrays[content]
    if kind == "scalar":
        return arrays[content][()]
    if kind == "foreign":
        return Foreign()
    import torch

    if kind == "dtype" and isinstance(getattr(torch, content), torch.dtype):
        return getattr(torch, content)
    if kind == "tensor":
        return _rebuild_tensor(arrays[content], **dict(facts))
    raise ValueError(f"unknown structure {kind!r}")


def _rebuild_tensor(data: np.ndarray, shape: list[int], dtype: str, grad: bool) -> Any:
    """A tensor from its bytes; the bytes must be exactly as many as its shape needs."""
    import torch

    kind = getattr(torch, dtype)
    if not isinstance(kind, torch.dtype) or data.dtype != np.uint8:
        raise ValueError("a tensor has a dtype and bytes")
    if (
        len(data) != math.prod(shape) * torch.empty((), dtype=kind).element_size()
        or min(shape, default=0) < 0
    ):
        raise ValueError("a tensor has as many bytes as its shape says")
    flat = torch.from_numpy(data.copy()).view(kind) if len(data) else torch.empty(0, dtype=kind)
    return flat.reshape(shape).requires_grad_(grad)


def _read_arrays(data: bytes) -> dict[str, np.ndarray]:
    """The arrays of an npz that was written without compression and without pickles. ValueError
    otherwise.
    """
    archive = zipfile.ZipFile(io.BytesIO(data))
    members = archive.infolist()
    if len(members) > MAX_ARRAYS or sum(member.file_size for member in members) > len(data):
        raise ValueError("more in the file than its bytes")
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise ValueError("compressed")
    return {
        member.filename.removesuffix(".npy"): _read_array(archive.read(member))
        for member in members
    }


def _read_array(data: bytes) -> np.ndarray:
    """One npy file. Its header is compared with its length first: NumPy reserves what the header
    says.
    """
    file = io.BytesIO(data)
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError("not as np.savez writes it")
    shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    if (
        dtype.kind not in NUMBER_KINDS
        or math.prod(shape) * dtype.itemsize != len(data) - file.tell()
    ):
        raise ValueError("header and content differ")
    return np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)
