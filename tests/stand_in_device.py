"""A stand-in for a GPU, so that a tensor left on the wrong side is found where there is none.

What is "on the card" says device "meta" and computes on the CPU behind it. Within `StandIn()` an
operation that meets a tensor of each side is counted in `.wrong`, as CUDA would refuse it: numbers
(tensors without dimensions) may come from anywhere.
"""

from unittest import mock

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

CARD = "meta"
BETWEEN = (torch.ops.aten.copy_.default,)  # copies from one side to the other


class OnCard(torch.Tensor):
    """A tensor on the card; `.behind` is the real one."""

    @staticmethod
    def __new__(cls, behind):
        return torch.Tensor._make_wrapper_subclass(
            cls, behind.shape, strides=behind.stride(), dtype=behind.dtype, device=CARD
        )

    def __init__(self, behind):
        self.behind = behind

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        raise AssertionError(f"{func} on the card, outside of StandIn()")

    def tolist(self):
        """As a GPU's tensor, it may become a list; numpy refuses it."""
        return self.behind.tolist()


def behind(tensor):
    """The real tensor, whatever side it is on."""
    return tensor.behind if isinstance(tensor, OnCard) else tensor


class StandIn(TorchDispatchMode):
    """Carries operations out and counts those that meet both sides."""

    def __init__(self):
        super().__init__()
        self.wrong = []
        # torch.tensor makes a tensor of the device "meta" without asking: here, first beside it
        make = torch.tensor
        self._patch = mock.patch.object(
            torch, "tensor", lambda *data, device=None, **how: make(*data, **how).to(device)
        )

    def __enter__(self):
        self._patch.start()
        return super().__enter__()

    def __exit__(self, *error):
        self._patch.stop()
        return super().__exit__(*error)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        """One operation: on the card where it says so, or where a tensor of it is."""
        kwargs = dict(kwargs or {})
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        sides = {isinstance(tensor, OnCard) for tensor in tensors if tensor.dim()}
        if len(sides) == 2 and func not in BETWEEN and "index" not in str(func):
            self.wrong.append(str(func))
        to = kwargs.get("device")
        on_card = (
            torch.device(to).type == CARD
            if to is not None
            else True in sides or any(isinstance(tensor, OnCard) for tensor in tensors)
        )
        if to is not None:
            kwargs["device"] = "cpu"
        made = func(*tree_map(behind, args), **tree_map(behind, kwargs))
        given = {id(behind(tensor)): tensor for tensor in tensors}

        def put(leaf):
            if not isinstance(leaf, torch.Tensor):
                return leaf
            if id(leaf) in given:  # changed in place
                return given[id(leaf)]
            return OnCard(leaf) if on_card else leaf

        return tree_map(put, made)


def to_card(model: nn.Module) -> nn.Module:
    """The model with its parameters and buffers on the card, in place."""
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                moved = OnCard(parameter.detach())
                module._parameters[name] = nn.Parameter(moved, parameter.requires_grad)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = OnCard(buffer)
    return model
