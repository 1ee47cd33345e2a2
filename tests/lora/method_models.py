"""Small configurations of every PEFT method, and models with something trained in them."""

import torch

from lab_utils.lora.methods import MethodConfig


def config(method, **changes):
    return MethodConfig(
        method,
        **{
            "rank": 2,
            "alpha": 8,
            "steps": 4,
            "batch_size": 4,
            "save_every": 2,
            "bottleneck": 3,
            "virtual_tokens": 5,
            "learning_rate": 1e-2,
            **changes,
        },
    )


def shaken(model, seed=0):
    """The model with trained values that are no longer what they start from."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            if p.requires_grad:
                p.add_(0.1 * torch.randn(p.shape, generator=generator))
    return model
