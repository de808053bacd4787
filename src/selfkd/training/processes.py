"""The processes of a run: who has started them, and how many there are."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass

from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment

from selfkd.cores import available_cores
from selfkd.errors import OptionError, UserError
from selfkd.process_environment import says_threads
from selfkd.process_group import is_distributed, process_rank
from selfkd.training.options import TrainerOptions

__all__ = ["World", "is_main_process", "launch_variables", "launcher_name"]

# torchrun sets these variables for its processes, and `launch_variables` gives them, too.
_LAUNCH_VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
_THREADS = "OMP_NUM_THREADS"


@dataclass(frozen=True)
class World:
    """All processes of a run.

    Args:
        devices: number of processes on each machine.
        num_nodes: number of machines.
        environment: tells a process its rank and the address of the main process.
        launched: whether torchrun, srun or this library has started this process together with the others.
    """

    devices: int
    num_nodes: int
    environment: ClusterEnvironment
    launched: bool

    @property
    def size(self) -> int:
        """Number of processes."""
        return self.devices * self.num_nodes

    @classmethod
    def of(cls, options: TrainerOptions) -> World:
        """The processes that have been started with this one; otherwise those that the options ask for.

        Raises: OptionError: if the two disagree, or the options ask for several machines and nothing has started them.
        """
        launched = _launcher()
        if launched is not None:
            name, environment, devices = launched
            nodes = environment.world_size() // devices
            for option, asked, started, unit in (
                ("devices", options.devices, devices, "processes on each machine"),
                ("num_nodes", options.num_nodes, nodes, "machines"),
            ):
                if asked not in (1, started):
                    reason = f"{name} uses {started} {unit}; leave trainer.{option} out, or set it to {started}"
                    raise OptionError(f"trainer.{option}", asked, reason=reason)
            return cls(devices, nodes, environment, launched=True)
        if options.num_nodes > 1:
            reason = "torchrun or srun must start the processes on every machine (docs/many-processes.md)"
            raise OptionError("trainer.num_nodes", options.num_nodes, reason=reason)
        return cls(options.devices, 1, LightningEnvironment(), launched=False)


def is_main_process() -> bool:
    """Whether this is the process that writes and reports."""
    if is_distributed():
        return process_rank() == 0
    launched = _launcher()
    return launched is None or launched[1].global_rank() == 0


def launcher_name() -> str | None:
    """The launcher that started this process and others: "torchrun" or "srun"; None if it was started alone.

    A process that has the `launch_variables` counts as one of torchrun.
    """
    launched = _launcher()
    return None if launched is None else launched[0]


def launch_variables(processes: int) -> list[dict[str, str]]:
    """The environment variables of new processes on this machine that train together, by rank, as torchrun sets them.

    More threads than cores are very slow, so the processes divide the cores, unless `OMP_NUM_THREADS` says how many
    threads each of them uses.

    Args:
        processes: number of processes.
    """
    threads = os.environ[_THREADS] if says_threads(_THREADS) else str(max(1, available_cores() // processes))
    for_all = {"WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes), _THREADS: threads}
    for_all |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port())}
    return [{**for_all, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(processes)]


def _launcher() -> tuple[str, ClusterEnvironment, int] | None:
    """The launcher's name, its environment, and the number of processes that it started on this machine.

    Returns: None if no launcher started this process.
    Raises: UserError: if Lightning does not support the way in which srun was started.
    """
    if all(name in os.environ for name in _LAUNCH_VARIABLES):
        return "torchrun", TorchElasticEnvironment(), int(os.environ["LOCAL_WORLD_SIZE"])
    # A batch script has no step of its own, so a process that it starts without srun is alone.
    if "SLURM_STEP_ID" in os.environ and SLURMEnvironment.detect() and int(os.environ["SLURM_NTASKS"]) > 1:
        tasks, nodes = int(os.environ["SLURM_NTASKS"]), int(os.environ.get("SLURM_NNODES", 1))
        try:
            # Lightning's requeueing would save and restore in the middle of an epoch.
            return "srun", SLURMEnvironment(auto_requeue=False), tasks // nodes
        except RuntimeError as error:
            raise UserError(str(error)) from error
    return None


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
