"""What the workers of a run have: their number, threads and memory, of a machine or of nodes."""

from __future__ import annotations

from math import ceil, prod

from denoise5d.config import Config
from denoise5d.errors import PlanError
from denoise5d.kernel import scratch_bytes
from denoise5d.machine import GIB, Machine, this_machine
from denoise5d.parameters import Parameters
from denoise5d.plan import Budget
from denoise5d.slurm import smallest_node
from denoise5d.store import Description, ImageInfo

INTERPRETER_BYTES = 400 * 2**20
"""Python, NumPy, zarr, dask and their threads: the fixed part of every worker's reserve."""

_MOST_IO_THREADS = 16

_BLOCKS_READ = 2
"""Of a worker, at most, at a time: each decodes in its thread what is no Zarr."""

_SHARE_OF_MACHINE = 0.8
"""Of the memory, for all workers together, unless the YAML says otherwise."""

WORKER_HEADROOM_BYTES = 512 * 2**20
"""What a worker's job takes beside the worker: the shell, and dask's process that watches it."""

DRIVER_BYTES = 8 * GIB
"""What a driver's job asks for: it samples the image for its noise, and schedules."""

NO_LIMIT = 2**62


def io_threads(threads: int) -> int:
    """Return how many threads decode and encode chunks beside a kernel of `threads`."""
    return min(threads, _MOST_IO_THREADS)


def machine_of(config: Config) -> Machine:
    """Return what there is for the workers: this machine, or a node of the cluster for each.

    Raises
    ------
    PlanError
        If neither the YAML nor SLURM says what a node has.
    """
    cluster = config.cluster
    if cluster.batch is None:
        return this_machine()
    if cluster.cpus and (cluster.memory or config.blocks.shape):
        return Machine(cluster.cpus, NO_LIMIT)
    node = smallest_node(cluster.batch.partition)
    if node is None:
        where = cluster.batch.partition or "the default partition"
        raise PlanError(
            f"what the nodes of {where} have is not known here ({config.source}): SLURM's sinfo "
            f"does not say; give cluster.cpus, and cluster.memory or blocks.shape, as your "
            f"site's documentation names them, or correct cluster.partition"
        )
    return node


def share_out(
    config: Config, image: Description, parameters: Parameters, machine: Machine
) -> Budget:
    """Share what there is out among the workers."""
    share = _share_of_node if config.cluster.batch else _share_of_machine
    workers, threads, memory = share(config, machine)
    scratch = threads * scratch_bytes(parameters, image.shape)
    return Budget(
        workers=workers,
        threads=threads,
        memory_bytes=memory,
        memory_factor=config.blocks.memory_factor,
        reserve_bytes=INTERPRETER_BYTES + scratch + _decoding_bytes(image, threads),
    )


def _share_of_machine(config: Config, machine: Machine) -> tuple[int, int, int]:
    """Return workers, threads and bytes of each: all workers are on this machine."""
    cluster = config.cluster
    workers = cluster.workers or max(1, min(2, machine.cpus // (cluster.cpus or 1)))
    threads = cluster.cpus or max(1, machine.cpus // workers)
    if cluster.memory is None:
        memory = int(machine.memory_bytes * _SHARE_OF_MACHINE) // workers
    else:
        memory = int(cluster.memory * GIB)
    if memory * workers > machine.memory_bytes and config.input.path.exists():
        raise PlanError(
            f"cluster.memory must fit the machine: {workers} workers of {memory / GIB:.1f} GiB "
            f"want {memory * workers / GIB:.1f} GiB, and it has "
            f"{machine.memory_bytes / GIB:.1f} GiB; lower cluster.memory or cluster.workers"
        )
    return workers, threads, memory


def _share_of_node(config: Config, node: Machine) -> tuple[int, int, int]:
    """Return workers, threads and bytes of each: every worker has a job or a node of its own."""
    cluster = config.cluster
    assert cluster.batch is not None
    threads = cluster.cpus or node.cpus
    if cluster.memory is not None:
        memory = int(cluster.memory * GIB)
    elif cluster.batch.exclusive or cluster.kind == "allocation" or node.memory_bytes == NO_LIMIT:
        memory = node.memory_bytes
    else:
        memory = node.memory_bytes * threads // node.cpus
    beside = WORKER_HEADROOM_BYTES + (DRIVER_BYTES if cluster.kind == "allocation" else 0)
    usable = memory // GIB * GIB - beside  # a job asks for whole GiB
    if usable <= 0:
        raise PlanError(
            f"cluster.memory must be at least {ceil(beside / GIB)} GiB, as a job of kind "
            f"{cluster.kind} takes {beside / GIB:.1f} GiB beside its worker, "
            f"got {memory / GIB:.3g} GiB"
        )
    return cluster.batch.count, threads, usable


def _decoding_bytes(image: Description, threads: int) -> int:
    """Return what chunks of the input take while they are decoded, 0 where there is no input."""
    if not isinstance(image, ImageInfo):
        return 0
    at_once = io_threads(threads) if image.zarr_format else _BLOCKS_READ
    return 2 * at_once * prod(image.chunks) * image.dtype.itemsize
