"""The keeper of the workers, with a cluster and a clock of the tests: no dask, no SLURM."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import pytest

from denoise5d.cluster import keeper as module
from denoise5d.cluster.keeper import Keeper, Pool
from denoise5d.cluster.workers import Death
from denoise5d.slurm import Silent

FAULT, CHANCE = Death("its script failed"), Death("its node failed", innocent=True)


class FakeCluster:
    """What the keeper uses of dask's cluster; names are never used twice."""

    def __init__(self) -> None:
        self.worker_spec: dict[str, Any] = {}
        self.scheduler = SimpleNamespace(workers={}, remove_worker=self._remove_worker)
        self.begun = 0

    async def _remove_worker(self, address: str, *, stimulus_id: str) -> None:
        assert stimulus_id
        del self.scheduler.workers[address]

    @property
    def workers(self) -> dict[str, Any]:
        return self.worker_spec

    def scale(self, count: int) -> None:
        while len(self.worker_spec) < count:
            self.begun += 1
            self.worker_spec[f"w{self.begun}"] = object()

    def scale_down(self, names: Iterable[str]) -> None:
        for name in names:
            del self.worker_spec[name]  # the scheduler misses it later, or never

    def sync(self, function: Any, *arguments: Any) -> Any:
        result = function(*arguments)
        if not inspect.iscoroutine(result):
            return result
        with pytest.raises(StopIteration) as ended:
            result.send(None)
        return ended.value.value


class FakePool(Pool):
    """Workers of which the test says what becomes of them."""

    def __init__(self) -> None:
        self.cluster: Any = FakeCluster()
        self.dead: dict[str, Death] = {}
        self.pending: dict[str, str] = {}
        self.reason: str | None = None
        self.silent = False

    def ended(self) -> dict[str, Death]:
        if self.silent:
            raise Silent("no controller")
        return {name: self.dead[name] for name in self.names() if name in self.dead}

    def waiting(self) -> dict[str, str]:
        return {name: self.pending[name] for name in self.names() if name in self.pending}

    def never(self) -> str | None:
        return self.reason

    def death(self, name: str) -> Death:
        return self.dead.get(name, Death(f"{name} died"))

    def names(self) -> list[str]:
        return list(self.cluster.worker_spec)


class Bench:
    """A keeper that looks when it is told to."""

    def __init__(self, count: int) -> None:
        self.pool, self.now = FakePool(), 1000.0
        self.keeper = Keeper(self.pool, count)
        self.keeper.note(99, 0.0)
        self.mute: set[str] = set()  # workers that are connected, and are not heard of

    def look(self, *, after: float = 10.0) -> list[str]:
        """Let time pass, look, and return the workers that there are then."""
        self.now += after
        self.hear()
        self.keeper._look()
        return self.pool.names()

    def clock(self) -> SimpleNamespace:
        return SimpleNamespace(monotonic=lambda: self.now, time=lambda: self.now)

    def hear(self) -> None:
        for name, worker in self.pool.cluster.scheduler.workers.items():
            if name not in self.mute:
                worker.last_seen = self.now

    def connect(self, *names: str, busy: float | None = None) -> None:
        """Let workers be connected, idle or with a block that has taken so many seconds."""
        blocks = {} if busy is None else {"block": busy}
        for name in names:
            self.pool.cluster.scheduler.workers[name] = SimpleNamespace(
                name=name, processing=blocks, executing=blocks, last_seen=self.now
            )

    def end(self, *names: str, death: Death = FAULT) -> None:
        for name in names:
            self.pool.dead[name] = death
            self.pool.cluster.scheduler.workers.pop(name, None)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    """Return a keeper of two workers."""
    bench = Bench(2)
    monkeypatch.setattr(module, "time", bench.clock())
    return bench


def test_as_many_workers_as_there_shall_be(bench: Bench) -> None:
    assert bench.look() == ["w1", "w2"]
    assert bench.look() == ["w1", "w2"]


def test_no_more_workers_than_blocks(bench: Bench) -> None:
    bench.keeper.note(1, 0.0)
    assert bench.look() == ["w1"]


@pytest.mark.parametrize("death", [FAULT, CHANCE])
def test_one_that_has_ended_is_replaced(
    bench: Bench, death: Death, caplog: pytest.LogCaptureFixture
) -> None:
    bench.look()
    bench.connect("w1", "w2", busy=1)
    bench.end("w1", death=death)
    bench.look()
    assert bench.look(after=30) == ["w2", "w3"]
    assert f"worker w1 has ended: {death.reason}" in caplog.text


def test_one_that_did_blocks_is_replaced_without_alarm(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.look()
    bench.connect("w1", "w2", busy=1)
    bench.keeper.worked("w1")
    bench.end("w1")
    assert bench.look() == ["w2", "w3"]
    assert [r for r in caplog.records if r.levelno >= logging.WARNING] == []


def test_the_next_one_comes_later_each_time(bench: Bench) -> None:
    bench.look()
    bench.connect("w2", busy=1)
    pauses = []
    for _ in range(4):
        bench.end(*(name for name in bench.pool.names() if name != "w2"))
        began = bench.now
        while len(bench.look(after=1)) < 2:
            pass
        pauses.append(bench.now - began)
    assert pauses == sorted(set(pauses))
    bench.keeper.worked("w2")
    bench.end(bench.pool.names()[-1])
    bench.look(after=1)
    assert len(bench.look(after=pauses[0])) == 2


def in_vain(bench: Bench) -> int:
    """Let every worker end at once until the keeper gives up; return how many there were."""
    for _ in range(100):
        bench.end(*bench.look(after=400))
        if bench.keeper.given_up is not None:
            break
    return bench.pool.cluster.begun


def test_when_all_is_in_vain_it_gives_up_after_a_few(bench: Bench) -> None:
    assert 3 <= in_vain(bench) <= 6
    assert bench.keeper.given_up is not None
    assert "workers in a row ended without a block done" in bench.keeper.given_up
    assert FAULT.reason in bench.keeper.given_up
    bench.look()
    assert bench.pool.names() == []


def test_it_does_not_give_up_while_blocks_get_done(bench: Bench) -> None:
    for _ in range(60):
        names = bench.look(after=400)
        bench.connect(*names, busy=1)
        if names:
            bench.keeper.worked(names[-1])
        bench.end(*names)
    assert bench.keeper.given_up is None
    assert bench.pool.cluster.begun > 40


def test_surplus_workers_go_those_that_wait_first(bench: Bench) -> None:
    bench.look()
    bench.connect("w1")  # idle
    bench.pool.pending["w2"] = "Priority"
    bench.keeper.note(1, 5.0)
    assert bench.look() == ["w1"]
    bench.keeper.note(0, 5.0)
    assert bench.look() == []


def test_no_worker_with_a_block_is_surplus(bench: Bench) -> None:
    bench.look()
    bench.connect("w1", busy=3)
    bench.connect("w2")
    bench.keeper.note(1, 5.0)
    assert bench.look() == ["w1"]
    bench.keeper.note(0, 5.0)
    assert bench.look() == ["w1"]


def test_a_block_that_never_ends(bench: Bench) -> None:
    bench.look()
    bench.keeper.note(9, 100.0)
    limit = module._HUNG_TIMES * 100 + module._HUNG_SECONDS
    bench.connect("w1", "w2", busy=limit)
    assert bench.look() == ["w1", "w2"]
    bench.connect("w1", busy=limit + 1)
    bench.look()
    assert bench.look(after=30) == ["w2", "w3"]
    words = bench.keeper.death("w1").reason
    assert f"{limit + 1} s so far" in words
    assert "others took 100 s" in words


def test_no_block_is_too_long_before_one_is_known(bench: Bench) -> None:
    bench.look()
    bench.connect("w1", "w2", busy=1e9)
    assert bench.look() == ["w1", "w2"]


@pytest.mark.parametrize("connected", [True, False])
def test_a_worker_that_is_lost(bench: Bench, connected: bool) -> None:
    bench.look()
    bench.connect("w1", "w2", busy=1)
    bench.look()
    if connected:
        bench.mute = {"w1"}
    else:
        del bench.pool.cluster.scheduler.workers["w1"]
    assert bench.look(after=module._LOST_SECONDS) == ["w1", "w2"]
    bench.look(after=5)
    bench.look(after=5)
    assert "w1" not in bench.pool.names()
    assert "w1" not in bench.pool.cluster.scheduler.workers  # its block goes to another one
    assert bench.look(after=30) == ["w2", "w3"]
    words = bench.keeper.death("w1").reason
    assert "has not been heard of for" in words
    assert "cluster.interface" in words


def test_a_worker_that_never_comes(bench: Bench) -> None:
    bench.look()
    bench.connect("w2", busy=1)
    bench.look()
    assert bench.look(after=module._START_SECONDS) == ["w1", "w2"]  # Python may take its time
    bench.look(after=5)
    bench.look(after=5)
    assert bench.look(after=30) == ["w2", "w3"]


def test_a_driver_that_stood_still_takes_nobody_for_lost(bench: Bench) -> None:
    bench.look()
    bench.connect("w1", "w2", busy=1)
    bench.look()
    bench.mute = {"w1", "w2"}  # what they said meanwhile has not been read yet
    bench.look(after=86400)
    bench.mute = set()
    assert bench.look() == ["w1", "w2"]


def test_a_worker_that_waits_is_not_lost(bench: Bench) -> None:
    bench.pool.pending |= dict.fromkeys(("w1", "w2"), "Priority")
    for _ in range(5):
        assert bench.look(after=86400) == ["w1", "w2"]
    bench.pool.pending.clear()
    assert bench.look() == ["w1", "w2"]  # has just begun
    assert bench.keeper.given_up is None


def test_the_death_of_a_worker_is_that_of_its_job(bench: Bench) -> None:
    bench.pool.dead["w1"] = CHANCE
    assert bench.keeper.death("w1") == CHANCE


def test_a_reason_for_which_no_job_ever_starts(bench: Bench) -> None:
    bench.pool.pending |= dict.fromkeys(("w1", "w2"), "InvalidAccount")
    bench.pool.reason = "change cluster.account"
    for after in (1, 1, module._NEVER_SECONDS):
        bench.look(after=after)
        assert bench.keeper.given_up is None
    bench.look(after=2)
    assert bench.keeper.given_up == "change cluster.account"


def test_such_a_reason_may_pass(bench: Bench) -> None:
    bench.pool.pending |= dict.fromkeys(("w1", "w2"), "JobHeldAdmin")
    for _ in range(5):
        bench.pool.reason = "held"
        bench.look(after=15)
        bench.pool.reason = None
        bench.look(after=15)
    assert bench.keeper.given_up is None


def test_as_long_as_one_runs_the_others_may_wait_for_ever(bench: Bench) -> None:
    bench.look()
    bench.connect("w1", busy=1)
    bench.pool.pending["w2"] = "InvalidAccount"
    bench.pool.reason = "change cluster.account"
    for _ in range(5):
        bench.look(after=60)
    assert bench.keeper.given_up is None


def test_what_is_waited_for_is_told_now_and_then(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    bench.look()
    bench.pool.pending |= {"w1": "Priority", "w2": "Priority"}
    for _ in range(60):
        bench.look(after=10)
    told = [m for m in caplog.messages if m == "2 worker jobs wait for SLURM: Priority"]
    assert len(told) == 2


def run(bench: Bench, monkeypatch: pytest.MonkeyPatch, silent: range, seconds: float) -> None:
    """Let the keeper run; SLURM does not answer between two times of the clock."""

    def wait(_: float) -> bool:
        bench.now += 60
        bench.hear()
        bench.pool.silent = int(bench.now) in silent
        return bench.now > 1000 + seconds

    over = SimpleNamespace(wait=wait, is_set=lambda: False)
    monkeypatch.setattr(bench.keeper, "_over", over)
    bench.keeper.run()


@pytest.mark.parametrize("connected", [True, False])
def test_slurm_is_silent(
    bench: Bench,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    connected: bool,
) -> None:
    caplog.set_level(logging.INFO)
    bench.look()
    if connected:
        bench.connect("w1", "w2", busy=1)
    else:
        bench.pool.pending |= {"w1": "Priority", "w2": "Priority"}
    shortly = module._SILENT_SECONDS // 2
    run(bench, monkeypatch, range(1100, 1100 + shortly), 2 * shortly)
    said = "SLURM does not answer, jobs go on meanwhile: no controller"
    assert caplog.messages.count(said) == caplog.messages.count("SLURM answers again") == 1
    assert bench.keeper.given_up is None
    assert bench.pool.names() == ["w1", "w2"]
    run(bench, monkeypatch, range(10**6), 10**5)
    assert caplog.messages.count(said) == 2
    if connected:
        assert bench.keeper.given_up is None
    else:
        assert "SLURM has not answered for" in (bench.keeper.given_up or "")


def test_a_fault_of_its_own_does_not_end_it(
    bench: Bench, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = bench.keeper._look
    looks = iter([lambda: 1 / 0, look, look])
    monkeypatch.setattr(bench.keeper, "_look", lambda: next(looks)())
    run(bench, monkeypatch, range(0), 100)
    assert "looking after the workers failed" in caplog.text
    assert "ZeroDivisionError" in caplog.text
    assert bench.pool.names() == ["w1", "w2"]


def test_it_looks_at_nothing_before_the_blocks_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = FakePool()
    keeper = Keeper(pool, 2)
    looks: list[None] = []
    monkeypatch.setattr(keeper, "_look", lambda: looks.append(None))
    keeper.start()
    keeper.stop()
    assert not keeper.is_alive()
    assert looks == []
