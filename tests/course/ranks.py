"""Processes of one launch, forked from a server that has imported torch already: a launch in a test
costs a second.
"""

import contextlib
import functools
import json
import multiprocessing
import os
import socket
import sys
import time
from multiprocessing import forkserver
from pathlib import Path
from unittest import mock

from lab_utils.files import ROOT

LAUNCH_VARIABLES = (
    "RANK",
    "LOCAL_RANK",
    "WORLD_SIZE",
    "LOCAL_WORLD_SIZE",
    "MASTER_ADDR",
    "MASTER_PORT",
    "ACCELERATE_USE_CPU",
)


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def record_batches(path: Path) -> None:
    """Writes the token ids of every batch that this process collates, a JSON line for each."""
    from lab_utils.finetuning.training import PadRight

    collate = PadRight.__call__

    def recorded(self, pairs):
        with path.open("a") as file:
            file.write(json.dumps([pair["input_ids"] for pair in pairs]) + "\n")
        return collate(self, pairs)

    PadRight.__call__ = recorded


def report_writes(rank: int) -> None:
    """Says aloud what this process does to the run's folder."""
    from lab_utils.course import launching
    from lab_utils.finetuning import training as finetuning

    def told(doing, name, *args):
        print(f"rank {rank}: {name}", flush=True)
        return doing(*args)

    for module, name in [(finetuning, "open_run"), (finetuning, "clear_run"), (launching, "save")]:
        setattr(module, name, functools.partial(told, getattr(module, name), name))


def die_while_saving(step: int) -> None:
    """This process disappears in the middle of a checkpoint, half a second after the others have
    written theirs.
    """
    from transformers import Trainer

    save = Trainer._save_rng_state

    def dying(self, folder):
        if self.state.global_step == step:
            time.sleep(0.5)
            os._exit(9)
        save(self, folder)

    Trainer._save_rng_state = dying


def shard_on_the_cpu() -> None:
    """Lets accelerate and torch run FSDP on the CPU, which both refuse: everything but the device
    stays as it is.
    """
    import inspect
    import textwrap

    import accelerate.state
    import torch
    import torch.distributed.fsdp.fully_sharded_data_parallel as fsdp
    from torch.distributed.fsdp._flat_param import FlatParamHandle

    source = textwrap.dedent(inspect.getsource(accelerate.state.AcceleratorState.__init__))
    names = vars(accelerate.state)
    exec(
        source.replace(
            "DistributedType.MULTI_GPU,\n",
            "DistributedType.MULTI_GPU, DistributedType.MULTI_CPU,\n",
            1,
        ),
        names,
    )
    accelerate.state.AcceleratorState.__init__ = names.pop("__init__")

    wrap, handle_for = fsdp.FullyShardedDataParallel.__init__, fsdp._init_device_handle
    fsdp.FullyShardedDataParallel.__init__ = lambda self, *args, device_id=None, **kwargs: wrap(
        self, *args, **kwargs
    )
    fsdp._init_device_handle = lambda state, module, ignored, _: handle_for(
        state, module, ignored, torch.device("cpu")
    )

    @contextlib.contextmanager
    # "to the CPU" is no copy here, and what is handed out would be freed with the original
    def copied(
        self,
    ):
        mine = self.flat_param.data
        self.flat_param.data = mine.clone()
        yield
        self.flat_param.data = mine

    FlatParamHandle.to_cpu = copied


def be_a_rank(rank: int, n: int, port: int, config: str, log: str, options: dict) -> None:
    """What one process does: set up as a launcher would, change what the test asks for, run the
    command.
    """
    out = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    os.dup2(out, 1)
    os.dup2(out, 2)
    if "cwd" in options:
        os.chdir(options["cwd"][rank])
    for name in LAUNCH_VARIABLES:
        os.environ.pop(name, None)
    os.environ.update(
        options.get("env", {}),
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE=str(n),
        LOCAL_WORLD_SIZE=str(n),
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
    )
    import torch

    from lab_utils.course import launching

    torch.set_num_threads(1)
    if "batches" in options:
        record_batches(Path(f"{options['batches']}-{rank}"))
    if options.get("report_writes"):
        report_writes(rank)
    if options.get("sharded"):
        shard_on_the_cpu()
    if rank == options.get("dies", -1):
        die_while_saving(options["at"])
    code = launching.main(["--config", config])
    sys.stdout.flush()
    os._exit(code)  # not the interpreter's way: pytest's handlers do not belong here


def server() -> multiprocessing.context.BaseContext:
    """The server's context; it is started with a path to import from, which Python 3.11 does not
    hand to it.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["lab_utils.course.launching"])
    with mock.patch.dict(os.environ, PYTHONPATH=str(ROOT)):
        forkserver.ensure_running()
    return context


def launch(
    configs: list[Path], log: Path, seconds: float = 120, **options
) -> tuple[list[int], str]:
    """(exit codes, what was said) of a launch with one process for each configuration file; none is
    left behind.
    """
    context, port = server(), free_port()
    processes = [
        context.Process(
            target=be_a_rank,
            args=(rank, len(configs), port, str(path), str(log), options),
            daemon=True,
        )
        for rank, path in enumerate(configs)
    ]
    try:
        for process in processes:
            process.start()
        end = time.monotonic() + seconds
        for process in processes:
            process.join(max(0.1, end - time.monotonic()))
        return [process.exitcode for process in processes], log.read_text(errors="replace")
    finally:
        for process in processes:
            if process.is_alive():
                process.kill()
            process.join()
