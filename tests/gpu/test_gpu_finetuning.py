"""QLoRA on a real GPU: the paged optimizer, the memory it takes, and the same adapter format. No
network.
"""

import pytest
import torch

from lab_utils.finetuning import training as finetuning
from lab_utils.finetuning.base_model import load_base
from lab_utils.finetuning.merging import merge
from lab_utils.finetuning.training import (
    FinetuneConfig,
    finetune,
    make_trainer,
    save_adapter,
    training_arguments,
)
from lab_utils.memory import sizes as memory

pytestmark = pytest.mark.gpu

ROWS = [
    {"question": f"Where is cheese {i} from?", "answer": f"From village {i * i}, my dear friend!"}
    for i in range(12)
]


def quiet(step, n_steps, loss):
    """In place of a progress bar."""


def train(method, folder, source, **more):
    return finetune(
        FinetuneConfig(method, steps=20, batch_size=4, **more),
        ROWS,
        folder,
        quiet,
        source=source,
        device="cuda",
    )


def test_the_paged_8_bit_optimizer_is_used(tiny_base, tmp_path):
    from bitsandbytes.optim import AdamW

    config = FinetuneConfig("qlora", steps=1, batch_size=4)
    assert training_arguments(config, tmp_path / "run", "cuda").optim == "paged_adamw_32bit"
    model, tokenizer = finetuning.load_for_training(config, source=tiny_base, device="cuda")
    trainer = make_trainer(config, model, tokenizer, ROWS, tmp_path / "run", "cuda", quiet)
    trainer.train()
    optimizer = getattr(trainer.optimizer, "optimizer", trainer.optimizer)
    assert isinstance(optimizer, AdamW) and optimizer.is_paged and optimizer.args.optim_bits == 8


@pytest.mark.parametrize("method", ["full", "lora", "qlora"])
def test_the_loss_falls_and_peak_memory_is_measured(
    method, tiny_base, tmp_path, record_property, capsys
):
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    result = train(method, tmp_path / "run", tiny_base)
    peak, kept = torch.cuda.max_memory_allocated() - before, sum(result.measured_bytes.values())
    record_property("peak_bytes", peak)
    with capsys.disabled():
        print(
            f"\n{method} on {torch.cuda.get_device_name()}: peak {peak:,} bytes, kept between "
            f"steps {kept:,}"
        )
    assert {p.device.type for p in result.model.parameters()} == {"cuda"}
    assert sum(result.losses[-3:]) / 3 < result.losses[0] - 0.3
    assert peak > result.measured_bytes["weights"], "activations and workspaces come on top"


def test_predicted_bytes_of_weights_and_gradients(tiny_base, tmp_path):
    result = finetune(
        FinetuneConfig("qlora", rank=4, steps=2, batch_size=4),
        ROWS,
        tmp_path / "run",
        quiet,
        source=tiny_base,
        device="cuda",
        dtype=torch.float32,
    )
    config = load_base(source=tiny_base)[0].config
    predicted = memory.training_state_bytes(memory.Architecture.of(config), "qlora", rank=4)
    assert {part: result.measured_bytes[part] for part in ("weights", "gradients")} == {
        part: predicted[part] for part in ("weights", "gradients")
    }
    assert 0 < result.measured_bytes["optimizer"]


def test_a_stopped_run_goes_on_on_the_gpu(tiny_base, tmp_path):
    config, where = (
        FinetuneConfig("qlora", steps=6, batch_size=4, save_every=2),
        {"source": tiny_base, "device": "cuda"},
    )
    whole = finetune(config, ROWS, tmp_path / "whole", quiet, **where)

    def stop(step, n_steps, loss):
        if step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        finetune(config, ROWS, tmp_path / "run", stop, **where)
    seen = []
    resumed = finetune(config, ROWS, tmp_path / "run", lambda step, *_: seen.append(step), **where)
    assert seen == [3, 4, 5, 6] and resumed.losses == pytest.approx(whole.losses, rel=1e-2)


def test_an_adapter_trained_on_the_gpu_merges_there(tiny_base, tmp_path):
    result = train("qlora", tmp_path / "run", tiny_base)
    folder = save_adapter(result, tmp_path / "adapter")
    merged = merge(folder, "dequantised first", source=tiny_base, device="cuda")
    ids = torch.tensor([[1, 4, 300, 301, 5]], device="cuda")
    with torch.no_grad():
        off = (
            (merged.eval()(ids).logits.float() - result.model.eval()(ids).logits.float())
            .abs()
            .max()
            .item()
        )
    assert off < 0.2, "rounded to half precision once more"


def test_quantized_weights_lie_on_the_gpu_in_4_bits(tiny_base):
    from bitsandbytes.nn import Linear4bit

    model, _ = load_base(source=tiny_base, quantized=True, device="cuda", dtype=torch.float16)
    layers = [module for module in model.modules() if isinstance(module, Linear4bit)]
    assert len(layers) == 14 and all(
        layer.weight.is_cuda and layer.weight.dtype == torch.uint8 for layer in layers
    )
