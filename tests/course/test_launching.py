"""A launch on several processes: the same batches, losses and adapter as one process, also after
one of them was killed.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import ranks
import torch
from safetensors.torch import load_file

from lab_utils.course import launching
from lab_utils.course.launching import (
    RankShare,
    check_shares,
    known_fields,
    read_job,
    start_process,
)
from lab_utils.files import ROOT
from lab_utils.finetuning import training as finetuning
from lab_utils.finetuning.levers import RECIPE
from lab_utils.finetuning.training import (
    FinetuneConfig,
    finetune,
    last_whole_checkpoint,
    save_adapter,
)

LAUNCH = ROOT / "data" / "launch"
STEPS, SAVE_EVERY = 18, 3
SETTINGS = dict(method="qlora", rank=4, alpha=8, steps=STEPS, batch_size=4, save_every=SAVE_EVERY)
# 11 rows in batches of 4: three are left at the end of an epoch, two for one process and one for
# the other. The answers'
# lengths differ, so a mean of the processes' means is not the mean over all answer tokens.
ROWS = [
    {
        "question": f"Where is cheese {i} from?",
        "answer": "From " + "far and " * (i * i % 9) + f"village {i}.",
        "fact_id": f"{i}",
        "kind": "origin",
        "source": "test",
    }
    for i in range(11)
]
# float32 sums in another order: 1e-6 was measured on losses of 6, 1e-6 on weights of up to 0.3
# (AdamW divides by the
# gradient's size, so a rounding error in a tiny gradient is not tiny in the weight).
LOSS, WEIGHT = dict(abs=1e-5), dict(atol=5e-5, rtol=0)


def write_job(folder: Path, base: Path, name: str = "job", **changes) -> Path:
    """A configuration file in `folder`, its rows beside it, its output in `folder`/name."""
    data = folder / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    path = folder / f"{name}.json"
    path.write_text(
        json.dumps(
            dict(SETTINGS, data=str(data), output=str(folder / name), source=str(base)) | changes
        )
    )
    return path


def losses(folder: Path) -> list[float]:
    return json.loads((folder / "losses.json").read_text())["losses"]


def adapter(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "adapter" / "adapter_model.safetensors")


def batches(path: Path) -> list[list]:
    return [sorted(json.loads(line)) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def alone(tiny_base, tmp_path_factory):
    """What transformers' own Trainer makes of the same configuration in one process: (folder,
    batches, losses).
    """
    folder = tmp_path_factory.mktemp("alone")
    collate = finetuning.PadRight.__call__
    with pytest.MonkeyPatch.context() as patch:
        # put back what `record_batches` changes
        patch.setattr(finetuning.PadRight, "__call__", collate)
        ranks.record_batches(folder / "batches")
        result = finetune(
            FinetuneConfig(**SETTINGS), ROWS, folder / "run", lambda *_: None, source=tiny_base
        )
    save_adapter(result, folder / "adapter")
    return folder, batches(folder / "batches"), result.losses


@pytest.fixture(scope="module")
def two(tiny_base, tmp_path_factory):
    """A launch of two processes that nothing disturbed: (its folder, its output, what was said)."""
    folder = tmp_path_factory.mktemp("two")
    job = write_job(folder, tiny_base)
    codes, said = ranks.launch(
        [job, job], folder / "log", batches=str(folder / "batches"), report_writes=True
    )
    assert codes == [0, 0], said
    return folder, folder / "job", said


def assert_same_as_alone(output: Path, alone) -> None:
    assert losses(output) == pytest.approx(alone[2], **LOSS)
    mine, expected = adapter(output), adapter(alone[0])
    assert mine.keys() == expected.keys() and len(mine) == 28
    for name in expected:
        assert torch.allclose(mine[name], expected[name], **WEIGHT), name
    # so the tolerance means something
    assert max(weight.abs().max() for weight in expected.values()) > 0.1


# ------------------------------------------------------------------------------------ the same step
def test_the_processes_share_out_each_batch_of_a_single_one(alone, two):
    shares = [batches(two[0] / f"batches-{rank}") for rank in range(2)]
    assert [sorted(a + b) for a, b in zip(*shares)][:STEPS] == alone[1][:STEPS]
    sizes = [(len(a), len(b)) for a, b in zip(*shares)][:STEPS]
    assert sizes == [(2, 2), (2, 2), (2, 1)] * (STEPS // 3)


def test_losses_and_adapter_are_those_of_one_process(alone, two):
    assert_same_as_alone(two[1], alone)


def test_only_process_0_writes_and_speaks(two):
    _, output, said = two
    writes = [line for line in said.splitlines() if line.startswith("rank ")]
    assert sorted(writes) == [
        "rank 0: clear_run",
        "rank 0: clear_run",
        "rank 0: open_run",
        "rank 0: save",
    ]
    assert said.count(f"{STEPS} steps in") == 1 and "on 2 process(es): loss 6." in said
    assert said.count("training:   0%") == 1 and "find_unused_parameters" not in said
    assert sorted(path.name for path in output.iterdir()) == ["adapter", "losses.json"]
    assert json.loads((output / "losses.json").read_text())["processes"] == 2


def test_shares_cover_a_batch_once():
    order = torch.utils.data.BatchSampler(range(11), 4, drop_last=False)
    shares = [list(RankShare(order, rank, 3)) for rank in range(3)]
    assert [sorted(a + b + c) for a, b, c in zip(*shares)] == [
        [0, 1, 2, 3],
        [4, 5, 6, 7],
        [8, 9, 10],
    ]
    assert len(RankShare(order, 0, 3)) == 3


# ---------------------------------------------------------------------------------------- kills
def stop_group(process: subprocess.Popen) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


def test_after_a_killed_process_the_same_command_goes_on(tiny_base, tmp_path, alone):
    """The launch by accelerate itself, with the configuration that ships."""
    job, output = write_job(tmp_path, tiny_base), tmp_path / "job"
    command = [
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        "--config_file",
        str(LAUNCH / "ddp.yaml"),
        "--main_process_port",
        str(ranks.free_port()),
        "-m",
        "lab_utils.course.launching",
        "--config",
        str(job),
    ]
    with (tmp_path / "log").open("w") as log:
        launch = subprocess.Popen(
            command,
            stdout=log,
            stderr=log,
            cwd=ROOT,
            start_new_session=True,
            env=dict(os.environ, OMP_NUM_THREADS="1"),
        )
        try:
            end = time.monotonic() + 240
            while not list(output.glob("run/checkpoint-*/trainer_state.json")):
                assert launch.poll() is None and time.monotonic() < end, (
                    tmp_path / "log"
                ).read_text()
                time.sleep(0.02)
            family = {
                child.environ().get("RANK"): child
                for child in psutil.Process(launch.pid).children(recursive=True)
            }
            family["1"].kill()
            assert launch.wait(60) != 0
            assert not [child for child in family.values() if child.is_running()], "an orphan"
        finally:
            stop_group(launch)
    said = (tmp_path / "log").read_text(errors="replace")
    assert (
        "error: process 0 stops, since another process of this launch is gone. Give the same "
        "command again" in said
    )
    assert "Signal 9 (SIGKILL)" in said
    reached = last_whole_checkpoint(output / "run")
    assert reached and not (output / "losses.json").exists()
    torn = output / "run" / f"checkpoint-{STEPS - 1}"
    torn.mkdir()
    (torn / "trainer_state.json").write_text('{"global_step": ')
    codes, said = ranks.launch([job, job], tmp_path / "log2")
    assert codes == [0, 0], said
    assert f"| {int(reached.name.split('-')[1])}/{STEPS} [00:00" in said, (
        "it did not go on from the last whole checkpoint"
    )
    assert_same_as_alone(output, alone)


def test_a_checkpoint_is_whole_only_when_all_processes_have_written(tiny_base, tmp_path):
    job = write_job(tmp_path, tiny_base)
    codes, said = ranks.launch([job, job], tmp_path / "log", dies=1, at=2 * SAVE_EVERY)
    assert codes == [1, 9] and "another process of this launch is gone" in said
    run = tmp_path / "job" / "run"
    assert (run / f"checkpoint-{2 * SAVE_EVERY}").is_dir()
    assert last_whole_checkpoint(run).name == f"checkpoint-{SAVE_EVERY}"


# ---------------------------------------------------------------------------------------- FSDP
def shipped_variables() -> dict[str, str]:
    """What accelerate hands to the processes for the configuration that ships."""
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser
    from accelerate.utils.launch import prepare_multi_gpu_env

    args = launch_command_parser().parse_args(
        ["--config_file", str(LAUNCH / "fsdp_qlora.yaml"), "-m", "lab_utils.course.launching"]
    )
    variables = prepare_multi_gpu_env(_validate_launch_command(args)[0])
    return {
        name: value
        for name, value in variables.items()
        if name.startswith(("FSDP_", "ACCELERATE_"))
    }


def test_sharded_qlora_is_the_same_and_goes_on(tiny_base, tmp_path, alone):
    """FSDP on the CPU, made possible for the test: 4-bit weights in pieces, one process lost, the
    same adapter.
    """
    job, options = write_job(tmp_path, tiny_base), dict(sharded=True, env=shipped_variables())
    codes, said = ranks.launch([job, job], tmp_path / "log", dies=1, at=5 * SAVE_EVERY, **options)
    assert codes == [1, 9], said
    assert last_whole_checkpoint(tmp_path / "job" / "run").name == f"checkpoint-{4 * SAVE_EVERY}"
    codes, said = ranks.launch([job, job], tmp_path / "log2", **options)
    assert codes == [0, 0], said
    assert f"| {4 * SAVE_EVERY}/{STEPS} [00:00" in said
    assert_same_as_alone(tmp_path / "job", alone)


def test_the_sharded_model_has_one_type(tiny_base, monkeypatch):
    monkeypatch.setattr(launching, "compute_dtype", lambda device: torch.bfloat16)
    model, _ = launching.load_sharded(FinetuneConfig("qlora", checkpointing=True), source=tiny_base)
    frozen = {p.dtype for p in model.parameters() if not p.requires_grad}
    assert frozen == {torch.bfloat16}, "4-bit codes, norms and embeddings"
    assert sum(type(p).__name__ == "Params4bit" for p in model.parameters()) == 14
    assert {name.split(".")[-3] for name, p in model.named_parameters() if p.requires_grad} == {
        "lora_A",
        "lora_B",
    }
    assert model.is_gradient_checkpointing and not model.config.use_cache


def test_the_sharding_that_ships():
    variables = shipped_variables()
    expected = {
        "ACCELERATE_USE_FSDP": "true",
        "FSDP_VERSION": "1",
        "FSDP_RESHARD_AFTER_FORWARD": "full_shard",
        "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
        "FSDP_USE_ORIG_PARAMS": "false",
        "FSDP_STATE_DICT_TYPE": "FULL_STATE_DICT",
        "ACCELERATE_MIXED_PRECISION": "no",
    }
    assert {name: variables.get(name) for name in expected} == expected


# ---------------------------------------------------------------------------------------- bad input
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"batchsize": 4},
            r"unknown field 'batchsize', did you mean 'batch_size'\? Known fields: data, output, "
            r"tier, .*, steps,",
        ),
        ({"zzz": 1}, "unknown field 'zzz' Known fields: data"),
        ({"steps": "8"}, 'steps is "8", expected int'),
        ({"steps": True}, "steps is true, expected int"),
        ({"steps": 8.0}, "steps is 8.0, expected int"),
        ({"checkpointing": 1}, "checkpointing is 1, expected bool"),
        ({"learning_rate": "3e-3"}, r'learning_rate is "3e-3", expected float \| null'),
        ({"target_modules": [1]}, r"target_modules is \[1\], expected str"),
        ({"source": None}, "source is null, expected str"),
        ({"steps": 0}, r"steps \(0\) and batch_size \(4\) must be at least 1"),
        ({"batch_size": 0}, r"batch_size \(0\) must be at least 1"),
        ({"rank": 0}, "rank is 0"),
        ({"save_every": 0}, "save_every is 0: .* at least 1"),
        ({"method": "QLoRA"}, "unknown method 'QLoRA'"),
        ({"data": "none.jsonl"}, "data is 'none.jsonl': expected an existing .jsonl file"),
        ({"data": "README.md"}, "data is 'README.md': expected an existing .jsonl file"),
        ({"output": ""}, "output is missing; it names the folder"),
    ],
)
def test_a_bad_file_says_what_is_wrong(changes, message, tiny_base, tmp_path):
    with pytest.raises(ValueError, match=message):
        read_job(write_job(tmp_path, tiny_base, **changes))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "holds no JSON object"),
        ("{", "is not JSON"),
        ('{"output": "x"}', "data is missing; it names a file"),
    ],
)
def test_a_file_that_is_no_job(text, message, tmp_path):
    (tmp_path / "job.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_job(tmp_path / "job.json")
    with pytest.raises(FileNotFoundError, match="--config names a JSON file"):
        read_job(tmp_path / "none.json")


def test_good_values_of_other_json_types(tiny_base, tmp_path):
    job = read_job(
        write_job(
            tmp_path,
            tiny_base,
            learning_rate=1,
            target_modules=["q_proj", "v_proj"],
            checkpointing=True,
        )
    )
    assert job.config == FinetuneConfig(
        **SETTINGS, learning_rate=1, target_modules=("q_proj", "v_proj"), checkpointing=True
    )
    assert (
        job.rows == ROWS
        and job.where == {"source": str(tiny_base)}
        and job.output == tmp_path / "job"
    )
    assert read_job(write_job(tmp_path, tiny_base, learning_rate=None)).config.learning_rate is None


def test_the_file_that_ships(monkeypatch):
    monkeypatch.chdir(ROOT)
    job = read_job(LAUNCH / "pavlos.json")
    assert job.config == RECIPE and len(job.rows) > 1000
    check_shares(job.config.batch_size, len(job.rows), 2)
    documented = (ROOT / "docs" / "launching.md").read_text()
    assert not [name for name in known_fields() if f"`{name}`" not in documented]


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        (
            (4, 12, 3),
            "batch_size 4 cannot be dealt out evenly to 3 processes: .* choose 3 or 6, or another "
            "number of processes",
        ),
        ((2, 12, 4), "batch_size 2 .* 4 processes: .* choose 4, or another"),
        (
            (4, 13, 2),
            "13 rows in batches of 4 leave 1 for the last batch of an epoch, fewer than the 2 "
            "processes: leave out 1",
        ),
    ],
)
def test_batches_that_cannot_be_shared(sizes, message):
    with pytest.raises(ValueError, match=message):
        check_shares(*sizes)


@pytest.mark.parametrize("sizes", [(4, 13, 1), (4, 12, 2), (4, 14, 2), (4, 15, 2), (4, 3, 2)])
def test_batches_that_can(sizes):
    check_shares(*sizes)


def refused(jobs, tmp_path, **options) -> str:
    """The one line that a launch says which must not start."""
    codes, said = ranks.launch(jobs, tmp_path / "log", **options)
    assert codes == [2, 2], said
    errors = [line for line in said.splitlines() if "error" in line.lower()]
    assert len(errors) == 1 and "Traceback" not in said, said
    return errors[0]


def test_processes_that_were_started_differently(tiny_base, tmp_path):
    mine = write_job(tmp_path, tiny_base)
    other = write_job(
        tmp_path, tiny_base, name="other", output=str(tmp_path / "job"), learning_rate=0.5
    )
    assert "learning_rate is 0.5 for process 1 and None for process 0" in refused(
        [mine, other], tmp_path
    )
    bad = write_job(tmp_path, tiny_base, name="bad", steps=0)
    (tmp_path / "log").unlink()
    assert "process 1: steps (0)" in refused([mine, bad], tmp_path)
    assert not (tmp_path / "job").exists()


def test_a_folder_that_is_not_shared(tiny_base, tmp_path):
    job, folders = write_job(tmp_path, tiny_base, output="here"), [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()
    said = refused([job, job], tmp_path, cwd=[str(folder) for folder in folders])
    assert (
        "process 1 does not see what process 0 wrote to here: output must be a folder that all "
        "machines share" in said
    )


def test_a_batch_that_the_processes_cannot_share(tiny_base, tmp_path):
    job = write_job(tmp_path, tiny_base, batch_size=5)
    assert "batch_size 5 cannot be dealt out evenly to 2 processes" in refused([job, job], tmp_path)


def test_one_process_where_several_were_asked_for(monkeypatch):
    """As `accelerate launch --cpu --num_processes 2` does: it would train alone, silently."""
    for name in ranks.LAUNCH_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "True")
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    with pytest.raises(
        ValueError, match="several processes were asked for and only one was started.*ddp.yaml"
    ):
        start_process()
