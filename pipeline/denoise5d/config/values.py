"""What a YAML file says, as plain frozen values that travel anywhere.

Five numbers stand for T, C, Z, Y, X. Where the YAML says ``auto`` or ``exact`` the value is None:
whoever uses it works it out.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from denoise5d.geometry import Index
from denoise5d.layout import OutputFormat


@dataclass(frozen=True, slots=True)
class InputConfig:
    """The image to denoise.

    Attributes
    ----------
    path : Path
        The Zarr image, absolute, links followed.
    axes : str or None
        Axes in the order of the array, capitals out of TCZYX; None: from the image's metadata.
    shape : Index or None
        Shape in voxels, TCZYX, to plan without the data; None: from the image.
    dtype : str or None
        NumPy name of the type of the voxels; given exactly when `shape` is.
    dataset : str or None
        Path of the array inside the store; None: the image of full resolution.
    """

    path: Path
    axes: str | None
    shape: Index | None
    dtype: str | None
    dataset: str | None


@dataclass(frozen=True, slots=True)
class OutputConfig:
    """The store that is written.

    Attributes
    ----------
    path : Path
        The OME-Zarr image, absolute, links followed; not the input, nor in it, nor around it.
    format : {"ome-zarr-0.5", "ome-zarr-0.4"}
        Version of OME-Zarr that is written.
    dtype : {"same", "float32"}
        Type of the voxels: as the input's, or float32.
    chunks : Index or None
        Chunk in voxels, TCZYX; None: chosen by the plan.
    shards : Index or None
        Shard in voxels, TCZYX; None: none, or chosen by the plan if `shards_auto`.
    shards_auto : bool
        Whether the plan chooses the shards.
    pyramid : bool
        Whether the levels of lower resolution are made.
    """

    path: Path
    format: OutputFormat
    dtype: Literal["same", "float32"]
    chunks: Index | None
    shards: Index | None
    shards_auto: bool
    pyramid: bool


@dataclass(frozen=True, slots=True)
class NoiseConfig:
    """The noise of the camera: gain and offset (and read noise), or sigma.

    All tuples given are of one length: 1, a value for every channel, or one value a channel.

    Attributes
    ----------
    gain : tuple of float or None
        Grey levels a photo-electron, > 0.
    offset : tuple of float or None
        ``variance = gain * mean + offset``, in grey levels squared.
    read_noise : tuple of float or None
        Standard deviation of the camera's read-out in grey levels, >= 0.
    sigma : tuple of float or None
        Standard deviation of noise that does not depend on the signal, in grey levels, > 0.
    """

    gain: tuple[float, ...] | None
    offset: tuple[float, ...] | None
    read_noise: tuple[float, ...] | None
    sigma: tuple[float, ...] | None


@dataclass(frozen=True, slots=True)
class RidgeConfig:
    """The settings of the refinement.

    Attributes
    ----------
    search : Index or None
        Search radius in voxels, TCZYX, 0 for C; None: after the image's dimensions.
    group : int or None
        Patches estimated together, 2 to 256; None: after the image's dimensions.
    stride : Index or None
        Voxels between reference patches, TCZYX; None: after the image's dimensions.
    rounds : int
        How often the result is refined, 1 to 4.
    """

    search: Index | None
    group: int | None
    stride: Index | None
    rounds: int


@dataclass(frozen=True, slots=True)
class DenoiseConfig:
    """The settings of the estimator.

    Attributes
    ----------
    ridge : RidgeConfig or None
        The refinement; None: SAFIR alone.
    patch : Index or None
        Radius of a patch in voxels, TCZYX, 0 for C; None: after the image's dimensions.
    iterations : int or None
        Number of iterations, 1 to 6; None: after the image's dimensions.
    pvalue : float
        Share of truly equal patches that are taken for different, between 0 and 1.
    """

    ridge: RidgeConfig | None
    patch: Index | None
    iterations: int | None
    pvalue: float


@dataclass(frozen=True, slots=True)
class BlocksConfig:
    """How the image is cut.

    Attributes
    ----------
    shape : Index or None
        Core of a block in voxels, TCZYX; None: chosen by the plan.
    halo : Index or None
        Voxels read around a core, TCZYX, 0 for C; None: exactly what the estimator reaches.
    memory_factor : float
        Memory of a worker over the padded block in float32, >= 1.
    retries : int
        How many times a failed block is tried again, >= 0.
    """

    shape: Index | None
    halo: Index | None
    memory_factor: float
    retries: int


@dataclass(frozen=True, slots=True)
class BatchConfig:
    """What SLURM is asked for, and how the jobs start.

    Attributes
    ----------
    count : int
        Worker jobs (kind ``slurm``, key ``jobs``) or nodes (kind ``allocation``, key ``nodes``).
    walltime : int
        Longest time of a job in seconds, at least 60.
    partition, account, qos, constraint, reservation : str or None
        The options of sbatch of these names; one line without white space. None: not asked for.
    memory_request : {"mem", "mem-per-cpu", "none"}
        The option by which a job asks for memory; none: it does not ask.
    exclusive : bool
        Whether a job shares its nodes with no other.
    interface : str or None
        Network interface of scheduler and workers; None: that of the host's name.
    scheduler_port : int
        Port of the scheduler; 0: any that is free.
    worker_ports : tuple of (int, int) or None
        First and last port that a worker may listen on; None: any that is free.
    local_folder : str or None
        Folder on the disk of each node, absolute; None: TMPDIR of the node.
    log_folder : Path or None
        Folder of the jobs' output, absolute; None: beside the output store.
    modules : tuple of str
        Each is loaded by ``module load`` before Python starts.
    prologue : str
        Shell text run before each driver and worker; "": none.
    python : str or None
        Python of the jobs, absolute; None: the one that submits.
    extra_directives : tuple of str
        Options of sbatch that are added, e.g. ``--gres=gpu:1``.
    removed_directives : tuple of str
        Names of options of sbatch that are left out, e.g. ``--mem``.
    mail_user : str or None
        Address that SLURM writes to.
    mail_type : tuple of str
        Events it writes about, in capitals; empty without `mail_user`.
    signal_lead : int
        Seconds before the end of the driver's job at which it is warned, less than `walltime`.
    until : {"done", "walltime"}
        Whether jobs follow each other until the work is done, or one walltime is all.
    """

    count: int
    walltime: int
    partition: str | None
    account: str | None
    qos: str | None
    constraint: str | None
    reservation: str | None
    memory_request: Literal["mem", "mem-per-cpu", "none"]
    exclusive: bool
    interface: str | None
    scheduler_port: int
    worker_ports: tuple[int, int] | None
    local_folder: str | None
    log_folder: Path | None
    modules: tuple[str, ...]
    prologue: str
    python: str | None
    extra_directives: tuple[str, ...]
    removed_directives: tuple[str, ...]
    mail_user: str | None
    mail_type: tuple[str, ...]
    signal_lead: int
    until: Literal["done", "walltime"]


@dataclass(frozen=True, slots=True)
class ClusterConfig:
    """Where the work is done.

    Attributes
    ----------
    kind : {"local", "slurm", "allocation"}
        The machine that the command runs on; worker jobs that a driver submits to SLURM one by
        one; or one job of several nodes.
    workers : int or None
        Processes, a block at a time each, of kind ``local``; None: chosen by the plan.
    cpus : int or None
        Threads of the kernel in each worker, and CPUs that its job asks for; None: what the
        machine has, shared out.
    memory : float or None
        Memory of a worker in GiB. None: what the machine has, shared out; of the other kinds,
        where it is the most that a worker's job may ask for, what the plan needs.
    dashboard : str or None
        ``host:port`` of dask's web page; None: no such page.
    batch : BatchConfig or None
        What SLURM is asked for; None exactly for kind ``local``.
    """

    kind: Literal["local", "slurm", "allocation"]
    workers: int | None
    cpus: int | None
    memory: float | None
    dashboard: str | None
    batch: BatchConfig | None


@dataclass(frozen=True, slots=True)
class Config:
    """Everything that one YAML file says.

    Attributes
    ----------
    source : Path
        The YAML file, absolute.
    input, output : InputConfig, OutputConfig
        What is read and what is written.
    noise : NoiseConfig or None
        The noise as given; None: estimated from the image.
    denoise, blocks, cluster : DenoiseConfig, BlocksConfig, ClusterConfig
        The estimator, the blocks, the workers.
    """

    source: Path
    input: InputConfig
    output: OutputConfig
    noise: NoiseConfig | None
    denoise: DenoiseConfig
    blocks: BlocksConfig
    cluster: ClusterConfig
