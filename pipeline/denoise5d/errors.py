"""Every error that a user may meet, with the exit code it leads to.

::

    Denoise5dError
    ├── RefusedError          exit 2: nothing was started, but for ClusterError
    │   ├── ConfigError       the YAML: every mistake at once, with file, line and key
    │   ├── PlanError         memory, disk or geometry do not fit
    │   ├── InputError        the image cannot be read or is of a kind we do not take
    │   ├── OutputError       the output cannot be made, or is not ours
    │   ├── NoiseError        the noise model could not be estimated
    │   ├── FingerprintError  the ledger was begun with other parameters
    │   ├── LockedError       another driver works on this output
    │   └── ClusterError      no worker can start, or each one dies; blocks that are done stay done
    ├── BlocksFailedError     exit 3: some blocks failed for good
    ├── WrongOutputError      exit 3: blocks that are done are not what they must be
    └── StoppedEarlyError     exit 75: run the same command again to go on
        └── StoppedByHandError   as somebody wished: no job is to go on by itself
"""

from __future__ import annotations


class Denoise5dError(Exception):
    """Base of all errors that end a command with a message instead of a traceback."""

    exit_code: int = 1


class RefusedError(Denoise5dError):
    """What was asked for cannot be done as it stands."""

    exit_code = 2


class ConfigError(RefusedError):
    """The YAML is wrong; the message lists every mistake with file, line, key and value."""


class PlanError(RefusedError):
    """The plan does not fit the memory, the disk or the geometry of the image."""


class InputError(RefusedError):
    """The input image is missing, damaged, or of a kind that is not taken."""


class OutputError(RefusedError):
    """The output store cannot be created or does not belong to this run."""


class NoiseError(RefusedError):
    """The noise could not be estimated; the message says why and what to give instead."""


class FingerprintError(RefusedError):
    """The ledger was begun with other parameters; the message lists the keys that differ."""


class LockedError(RefusedError):
    """Another driver holds the output; the message names its host, process and job."""


class ClusterError(RefusedError):
    """The cluster gives no workers that live; the message names the cause and the key to change."""


class BlocksFailedError(Denoise5dError):
    """Some blocks failed for good; the others are done and stay done."""

    exit_code = 3


class WrongOutputError(Denoise5dError):
    """The output is not what its run wrote, or not what its input gives; the message says where."""

    exit_code = 3


class StoppedEarlyError(Denoise5dError):
    """The run stopped before its end; the same command goes on where it stopped."""

    exit_code = 75


class StoppedByHandError(StoppedEarlyError):
    """Somebody stopped the run; jobs that would go on with it by themselves are not to."""
