"""Two drivers never hold one lock; a dead one never keeps it for long."""

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import asdict, replace

import pytest

from denoise5d import lock as lock_module
from denoise5d.errors import LockedError
from denoise5d.lock import OutputLock, Owner, is_dead, read_owner

HELPER = """
import errno, fcntl, os, sys, time
from pathlib import Path
from denoise5d.errors import LockedError
from denoise5d.lock import OutputLock

def refuse(*_):
    raise OSError(errno.ENOLCK, "No locks available")

kind, what, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
if kind == "guard":
    fcntl.flock = refuse
path = folder / "lock"

def hold():
    with OutputLock(path):
        print("held", flush=True)
        sys.stdin.readline()

def wait_for(name):
    while not (folder / name).exists():
        time.sleep(0.001)

def race(rounds):
    # Every round begins with the record of a dead owner; who wins holds on until all have tried.
    won = 0
    for i in range(rounds):
        (folder / f"ready-{i}-{os.getpid()}").touch()
        wait_for(f"go-{i}")
        try:
            with OutputLock(path):
                won += 1
                (folder / f"won-{i}-{os.getpid()}").touch()
                (folder / f"tried-{i}-{os.getpid()}").touch()
                wait_for(f"end-{i}")
        except LockedError:
            (folder / f"tried-{i}-{os.getpid()}").touch()

def turns(number):
    # Take turns as fast as possible; whoever is inside alone can create and remove the file.
    done = 0
    while done < number:
        try:
            with OutputLock(path):
                inside = os.open(folder / "inside", os.O_CREAT | os.O_EXCL)
                os.close(inside)
                time.sleep(0.001)
                (folder / "inside").unlink()
                done += 1
        except LockedError:
            time.sleep(0.001)

{"hold": hold, "race": lambda: race(6), "turns": lambda: turns(5)}[what]()
"""


@pytest.fixture(params=["flock", "guard"])
def kind(request, monkeypatch):
    """A file system with flock, and one without."""

    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    if request.param == "guard":
        monkeypatch.setattr(fcntl, "flock", refuse)
    return request.param


@pytest.fixture
def path(tmp_path):
    return tmp_path / "out.zarr.denoise5d" / "lock"


@pytest.fixture
def start(path):
    """Start helper processes on the folder of `path`; all are ended with the test."""
    started = []

    def start(kind, what, **environment):
        path.parent.mkdir(exist_ok=True)
        process = subprocess.Popen(
            [sys.executable, "-c", HELPER, kind, what, str(path.parent)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def dead_owner():
    """The record of a process of this machine that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return replace(Owner.of_this_process(), pid=process.pid, began="1")


def leave(path, owner):
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(asdict(owner)))


def is_free(path):
    with OutputLock(path):
        pass
    return True


# --- one at a time --------------------------------------------------------------------------------


@pytest.mark.usefixtures("kind")
def test_held_inside_and_free_after(path):
    for _ in range(2):
        with OutputLock(path):
            owner = read_owner(path)
            assert owner is not None
            assert owner.pid == os.getpid()
            assert not is_dead(owner)
        assert read_owner(path) is None


@pytest.mark.usefixtures("kind")
def test_released_when_the_driver_fails(path):
    with pytest.raises(ZeroDivisionError), OutputLock(path):
        raise ZeroDivisionError
    assert is_free(path)


@pytest.mark.usefixtures("kind")
def test_refused_in_the_same_process(path):
    with OutputLock(path):
        before = path.read_bytes()
        with pytest.raises(LockedError), OutputLock(path):
            pass
        assert path.read_bytes() == before
    assert is_free(path)


def test_the_refusal_names_host_process_job_and_time(path, kind, start):
    process = start(kind, "hold", SLURM_JOB_ID="4711")
    assert process.stdout.readline() == "held\n"
    owner = read_owner(path)
    with pytest.raises(LockedError) as caught, OutputLock(path):
        pass
    message = str(caught.value)
    assert f"process {process.pid} of SLURM job 4711 on {owner.host}" in message
    assert owner.since in message
    assert str(path) in message
    process.communicate("\n")
    assert process.returncode == 0
    assert is_free(path)


def test_a_killed_driver_is_taken_over(path, kind, start):
    process = start(kind, "hold")
    assert process.stdout.readline() == "held\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert read_owner(path).pid == process.pid  # it had no time to tidy up
    with OutputLock(path):
        assert read_owner(path).pid == os.getpid()


def test_a_killed_driver_nobody_waited_for_is_taken_over(path, start):
    process = start("guard", "hold")
    assert process.stdout.readline() == "held\n"
    process.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it stays a zombie
    assert is_dead(read_owner(path))


# --- races ----------------------------------------------------------------------------------------


def touched(folder, pattern, processes):
    """Wait until so many files match; fail as soon as a helper has failed."""
    pause = threading.Event()
    while len(found := list(folder.glob(pattern))) < len(processes):
        assert all(process.poll() in (None, 0) for process in processes)
        pause.wait(0.005)
    return found


def test_of_many_that_take_over_the_dead_at_once_one_wins(path, kind, start):
    folder, dead = path.parent, dead_owner()
    processes = [start(kind, "race") for _ in range(8)]
    for i in range(6):
        touched(folder, f"ready-{i}-*", processes)
        leave(path, dead)
        (folder / f"go-{i}").touch()
        touched(folder, f"tried-{i}-*", processes)
        winners = list(folder.glob(f"won-{i}-*"))
        (folder / f"end-{i}").touch()
        assert len(winners) == 1
    for process in processes:
        process.communicate()
        assert process.returncode == 0
    assert not (folder / "lock.guard").exists()


def test_many_that_take_turns_are_never_two_inside(kind, start):
    processes = [start(kind, "turns") for _ in range(4)]
    for process in processes:
        process.communicate()
        assert process.returncode == 0


@pytest.mark.usefixtures("kind")
def test_threads_of_one_process_are_kept_apart(path):
    together, results = threading.Barrier(8), []
    tried = threading.Barrier(8)

    def take():
        together.wait()
        try:
            with OutputLock(path):
                tried.wait()
                results.append("won")
        except LockedError:
            tried.wait()
            results.append("refused")

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == ["refused"] * 7 + ["won"]


# --- who is dead ----------------------------------------------------------------------------------


@pytest.mark.usefixtures("kind")
def test_a_process_number_used_again_is_no_owner(path):
    leave(path, replace(Owner.of_this_process(), began="1"))
    assert is_free(path)


@pytest.mark.usefixtures("kind")
def test_an_owner_from_before_the_last_boot_is_dead(path):
    leave(path, replace(Owner.of_this_process(), boot="an earlier one"))
    assert is_free(path)


@pytest.mark.usefixtures("kind")
def test_a_process_of_somebody_else_is_alive(path, monkeypatch):
    leave(path, Owner.of_this_process())

    def forbidden(*_):
        raise PermissionError

    monkeypatch.setattr(os, "kill", forbidden)
    monkeypatch.setattr(lock_module, "_began", lambda _: None)  # hidden: /proc with hidepid
    with pytest.raises(LockedError), OutputLock(path):
        pass


def elsewhere():
    return replace(Owner.of_this_process(), host="node-17", boot="its own", pid=1, job="4711")


def test_without_flock_an_owner_on_another_host_is_not_known_to_be_dead(path, monkeypatch):
    monkeypatch.setattr(fcntl, "flock", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSYS, "")))
    leave(path, elsewhere())
    before = path.read_bytes()
    with pytest.raises(LockedError) as caught, OutputLock(path):
        pass
    assert "process 1 of SLURM job 4711 on node-17" in str(caught.value)
    assert f"sure that it is dead, remove {path}" in str(caught.value)
    assert path.read_bytes() == before
    path.unlink()
    assert is_free(path)


def mounted(monkeypatch, path, kind, options):
    """Have the file system of `path` look like one of another kind."""
    device = path.stat().st_dev
    line = f"1 0 {os.major(device)}:{os.minor(device)} / /x rw,noatime shared:7 - {kind} a:/x rw"
    mounts = path.parent / "mountinfo"
    mounts.write_text(f"2 0 0:0 / / rw - ext4 /dev/x rw\n{line},{options}\n")
    monkeypatch.setattr(lock_module, "_MOUNTS", mounts)


@pytest.mark.parametrize(
    ("kind", "options", "spans"),
    [
        ("ext4", "discard", True),
        ("nfs4", "vers=4.2,local_lock=none", True),
        ("nfs", "vers=3,local_lock=posix", True),
        ("nfs", "vers=3,local_lock=flock", False),
        ("nfs", "vers=3,local_lock=all", False),
        ("nfs", "vers=3,nolock,local_lock=none", False),
        ("lustre", "flock,lazystatfs", True),
        ("lustre", "localflock,lazystatfs", False),
        ("gpfs", "relatime", True),
        ("beegfs", "cfgFile=x", False),
        ("fuse.sshfs", "user_id=0", False),
    ],
)
def test_a_free_flock_proves_death_where_it_spans_all_hosts(
    path, monkeypatch, kind, options, spans
):
    leave(path, elsewhere())
    mounted(monkeypatch, path, kind, options)
    if spans:
        assert is_free(path)
    else:
        with pytest.raises(LockedError, match="node-17"), OutputLock(path):
            pass


def test_a_file_system_that_is_not_listed_proves_nothing(path, monkeypatch):
    leave(path, elsewhere())
    monkeypatch.setattr(lock_module, "_MOUNTS", path.parent / "missing")
    with pytest.raises(LockedError, match="node-17"), OutputLock(path):
        pass


@pytest.mark.parametrize("flock", [True, False])
def test_another_container_of_this_machine_is_judged_by_flock_alone(flock):
    owner = replace(Owner.of_this_process(), pid_namespace="pid:[1]", host="container")
    assert is_dead(owner, flock_was_free=flock) == flock


@pytest.mark.usefixtures("kind")
@pytest.mark.parametrize("torn", [b"", b'{"host": "node', b"\x00\x00", b"{}", b"[]", b"3"])
def test_a_record_that_was_never_finished_holds_nothing(path, torn):
    path.parent.mkdir()
    path.write_bytes(torn)
    assert read_owner(path) is None
    assert is_free(path)


def test_a_flock_held_without_a_record_is_respected(path):
    path.parent.mkdir()
    with path.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(LockedError, match="not yet written its name"), OutputLock(path):
            pass


def test_a_guard_left_behind_is_named(path, monkeypatch):
    monkeypatch.setattr(lock_module, "_GUARD_SECONDS", 0.05)
    monkeypatch.setattr(fcntl, "flock", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSYS, "")))
    path.parent.mkdir()
    guard = path.with_name("lock.guard")
    guard.touch()
    with pytest.raises(LockedError, match=r"remove .*lock\.guard"), OutputLock(path):
        pass
    guard.unlink()
    assert is_free(path)


def test_other_errors_of_flock_are_not_hidden(path, monkeypatch):
    monkeypatch.setattr(fcntl, "flock", lambda *_: (_ for _ in ()).throw(OSError(errno.EIO, "bad")))
    with pytest.raises(OSError, match="bad"), OutputLock(path):
        pass
