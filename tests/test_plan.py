"""Layouts, the memory rule and the choice of blocks."""

import json
import tracemalloc
from itertools import product
from math import ceil, prod

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from denoise5d.errors import PlanError
from denoise5d.geometry import BlockGrid, as_index
from denoise5d.plan import Budget, Layout, Plan, choose_layout, make_plan

EMBRYO = (17, 1, 1501, 2048, 1936)
EMBRYO_HALO = (2, 0, 4, 10, 10)
NO_HALO = (0, 0, 0, 0, 0)
GIB = 2**30


def budget_of(padded_voxels, workers=2):
    """A budget in which blocks of exactly `padded_voxels` fit, and not of one more."""
    return Budget(workers, 1, 24 * padded_voxels + 1000, 6, 1000)


def indices(low, high):
    return st.tuples(*[st.integers(low, high)] * 5)


@st.composite
def cases(draw, most_units=4):
    """Image, write unit, halo and a budget; the image is of few units on every axis."""
    unit = draw(indices(1, 4))
    image = as_index([draw(st.integers(1, most_units * u)) for u in unit])
    halo = draw(indices(0, 3))
    room = draw(st.integers(1, 2 * prod(image)))
    return image, Layout(unit), halo, budget_of(room, draw(st.integers(1, 7)))


def auto_plan(image, layout, halo, budget):
    return make_plan(
        image, layout=layout, halo=halo, exact_halo=True, block_shape=None, budget=budget
    )


# --- the memory rule ------------------------------------------------------------------------------


@given(
    st.integers(0, 10**12),
    st.floats(0.1, 100),
    st.integers(0, 10**10),
)
def test_room_and_need_are_inverse(memory, factor, reserve):
    budget = Budget(1, 1, memory, factor, reserve)
    room = budget.padded_voxels
    assert room == 0 or budget.bytes_needed(room) <= memory
    assert budget.bytes_needed(room + 1) > memory


def test_bytes_per_worker_by_hand():
    plan = make_plan(
        (2, 1, 8, 100, 100),
        layout=Layout((1, 1, 8, 10, 10)),
        halo=(1, 0, 2, 5, 5),
        exact_halo=True,
        block_shape=(1, 1, 8, 50, 20),
        budget=Budget(3, 4, GIB, 6, 1_000_000),
    )
    assert plan.grid.largest_padded == (2, 1, 8, 55, 30)
    assert plan.padded_bytes == 4 * 2 * 8 * 55 * 30
    assert plan.bytes_per_worker == 6 * plan.padded_bytes + 1_000_000
    assert plan.blocks == 2 * 2 * 5
    assert plan.rounds == 7
    assert plan.redundancy == plan.grid.redundancy > 1
    assert plan.write_units == 2 * 10 * 10
    assert 200 < plan.files < 210
    assert plan.output_bytes(2) == 2 * 2 * 8 * 100 * 100


@pytest.mark.parametrize("bad", [{"workers": 0}, {"threads": 0}, {"memory_factor": 0}])
def test_impossible_budgets_are_refused(bad):
    good = {"workers": 1, "threads": 1, "memory_bytes": 1, "memory_factor": 6, "reserve_bytes": 0}
    with pytest.raises(ValueError, match="impossible budget"):
        Budget(**(good | bad))


# --- automatic blocks -----------------------------------------------------------------------------


def even_shapes(image, unit):
    """Every way to cut the image evenly into blocks of whole write units, one channel unit each."""
    lengths = []
    for axis, (n, u) in enumerate(zip(image, unit, strict=True)):
        units = ceil(n / u)
        sizes = {1} if axis == 1 else {ceil(units / k) for k in range(1, units + 1)}
        lengths.append([min(size * u, n) for size in sorted(sizes)])
    return product(*lengths)


def time_of(grid, workers):
    blocks = len(grid)
    rounds, largest = ceil(blocks / workers), prod(grid.largest_padded)
    return workers * ((rounds - 1) * grid.padded_voxels + largest * blocks) / blocks


@given(cases())
@settings(max_examples=200, deadline=None)
def test_no_shape_is_faster_than_the_automatic_one(case):
    image, layout, halo, budget = case
    workers = budget.workers
    grids = [BlockGrid(image, shape, halo) for shape in even_shapes(image, layout.write_unit)]
    grids = [grid for grid in grids if prod(grid.largest_padded) <= budget.padded_voxels]
    if not grids:
        with pytest.raises(PlanError, match="not even one write unit"):
            auto_plan(*case)
        return
    chosen = auto_plan(*case).grid
    best = min(time_of(grid, workers) for grid in grids)
    many = [time_of(grid, workers) for grid in grids if len(grid) >= 4 * workers]
    if many and min(many) < 1.1 * best * (1 - 1e-12):
        assert len(chosen) >= 4 * workers
        best = min(many)
    assert time_of(chosen, workers) == pytest.approx(best, rel=1e-12)
    if not many or best < min(many):
        as_fast = [g for g in grids if time_of(g, workers) <= best * (1 + 1e-12)]
        assert len(chosen) == min(len(g) for g in as_fast)


def test_blocks_are_of_equal_size_where_they_can_be():
    # 288 in chunks of 256 would leave one worker with nine times the work of the other.
    budget = Budget(2, 1, 2**30, 6, 2**28)
    layout = choose_layout(
        (6, 1, 40, 256, 288), (1, 0, 3, 5, 5), chunks=None, shards=None, shards_auto=True,
        budget=budget,
    )  # fmt: skip
    assert layout.chunks[4] == 144
    plan = make_plan(
        (6, 1, 40, 256, 288), layout=layout, halo=(1, 0, 3, 5, 5), exact_halo=True,
        block_shape=None, budget=budget,
    )  # fmt: skip
    sizes = {block.core.voxels for block in plan.grid}
    assert max(sizes) <= 1.2 * min(sizes)


@given(cases(most_units=40))
@settings(deadline=None)
def test_automatic_blocks_fit_and_are_whole_write_units(case):
    image, layout, _, budget = case
    try:
        plan = auto_plan(*case)
    except PlanError:
        assume(False)
    assert plan.bytes_per_worker <= budget.memory_bytes
    assert plan.grid.image_shape == image
    for b, u, n in zip(plan.grid.block_shape, layout.write_unit, image, strict=True):
        assert b <= n
        assert b % u == 0 or b == n
    assert plan.grid.block_shape[1] == min(layout.write_unit[1], image[1])


def test_a_block_of_all_time_points_where_time_has_a_halo():
    layout = choose_layout(
        EMBRYO, EMBRYO_HALO, chunks=None, shards=None, shards_auto=True, budget=(big := embryo())
    )
    plan = auto_plan(EMBRYO, layout, EMBRYO_HALO, big)
    assert plan.grid.block_shape[0] == 17
    assert plan.redundancy < 1.1
    assert plan.blocks >= 4 * 8


def embryo(workers=8, gib=64):
    return Budget(workers, 76, gib * GIB, 6, GIB // 2)


def test_four_blocks_a_worker_where_that_costs_little():
    image, layout = (1, 1, 1, 1, 1600), Layout((1, 1, 1, 1, 100))
    cheap = auto_plan(image, layout, (0, 0, 0, 0, 4), budget_of(10**6, 2))
    assert cheap.blocks == 8
    dear = auto_plan(image, layout, (0, 0, 0, 0, 40), budget_of(10**6, 2))
    assert dear.blocks == 2


def test_no_worker_idle_where_blocks_are_few():
    plan = auto_plan((1, 1, 1, 3, 600), Layout((1, 1, 1, 1, 100)), NO_HALO, budget_of(10**6, 3))
    assert plan.blocks % 3 == 0


def test_channels_are_apart():
    plan = auto_plan((1, 4, 1, 64, 64), Layout((1, 1, 1, 64, 64)), NO_HALO, budget_of(10**9, 1))
    assert plan.grid.block_shape == (1, 1, 1, 64, 64)


@pytest.mark.parametrize("halo", [NO_HALO, (2, 0, 4, 10, 10)])
@pytest.mark.parametrize("workers", [1, 7, 1000])
def test_thousands_of_write_units_on_every_axis(halo, workers):
    image = (5000, 1, 64 * 5000, 128 * 5000, 128 * 5000)
    plan = auto_plan(image, Layout((1, 1, 64, 128, 128)), halo, budget_of(10**9, workers))
    assert plan.bytes_per_worker <= plan.budget.memory_bytes
    assert plan.rounds > 10**5
    assert plan.redundancy < 1.5  # one write unit a block would have 7.4


def test_ten_million_blocks_cost_no_memory():
    image = (10, 1, 6400, 12800, 6400)
    tracemalloc.start()
    try:
        plan = make_plan(
            image,
            layout=Layout((1, 1, 64, 64, 128)),
            halo=(1, 0, 4, 10, 10),
            exact_halo=True,
            block_shape=(1, 1, 64, 64, 128),
            budget=budget_of(10**9),
        )
        assert plan.blocks == 10 * 100 * 200 * 50 == 10**7
        assert plan.to_json()["redundancy"] > 1
        assert plan.grid[plan.blocks - 1].core.stop == image
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000


# --- explicit blocks ------------------------------------------------------------------------------


@given(cases(), st.data())
@settings(deadline=None)
def test_an_explicit_shape_is_kept_or_refused(case, data):
    image, layout, halo, budget = case
    multiples = [st.integers(1, 5).map(lambda k, u=u: k * u) for u in layout.write_unit]
    shape = data.draw(st.tuples(*multiples))
    cut = as_index([min(b, n) for b, n in zip(shape, image, strict=True)])
    fits = prod(BlockGrid(image, cut, halo).largest_padded) <= budget.padded_voxels

    def explicit():
        return make_plan(
            image, layout=layout, halo=halo, exact_halo=True, block_shape=shape, budget=budget
        )

    if fits:
        assert explicit().grid.block_shape == cut
    else:
        with pytest.raises(PlanError, match="GiB"):
            explicit()


@given(cases())
@settings(deadline=None)
def test_the_largest_shape_named_in_a_refusal_fits_and_is_largest(case):
    image, layout, halo, budget = case
    assume(prod(image) > budget.padded_voxels)
    with pytest.raises(PlanError) as caught:
        make_plan(
            image, layout=layout, halo=halo, exact_halo=True, block_shape=image, budget=budget
        )
    message = str(caught.value)
    if "not even one write unit" in message:
        return
    named = as_index(json.loads(message.split("largest shape that fits: ")[1].split("].")[0] + "]"))
    assert prod(BlockGrid(image, named, halo).largest_padded) <= budget.padded_voxels
    make_plan(image, layout=layout, halo=halo, exact_halo=True, block_shape=named, budget=budget)
    for axis in (0, 2, 3, 4):
        if named[axis] < image[axis]:
            longer = list(named)
            longer[axis] = min(named[axis] + layout.write_unit[axis], image[axis])
            grown = BlockGrid(image, as_index(longer), halo)
            assert prod(grown.largest_padded) > budget.padded_voxels


def test_a_shape_that_does_not_fit_is_refused_with_both_numbers_and_a_way_out():
    with pytest.raises(PlanError) as caught:
        make_plan(
            EMBRYO,
            layout=Layout((1, 1, 64, 128, 128), (1, 1, 256, 256, 512)),
            halo=EMBRYO_HALO,
            exact_halo=True,
            block_shape=(17, 1, 1501, 512, 512),
            budget=embryo(gib=16),
        )
    message = str(caught.value)
    assert "blocks.shape [17, 1, 1501, 512, 512] needs 161.93 GiB a worker" in message
    assert "but a worker has 16.00 GiB" in message
    assert "[17, 1, 1501, 532, 532]" in message
    for key in ("cluster.memory", "cluster.workers", "blocks.memory_factor", "`auto`"):
        assert key in message


def test_numbers_that_differ_by_a_byte_differ_in_print():
    grid = {"layout": Layout((1, 1, 1, 1, 8)), "halo": NO_HALO, "exact_halo": True}
    budget = Budget(1, 1, 5 * GIB - 1, 1, 5 * GIB - 32)
    with pytest.raises(PlanError, match=r"needs 5\.00 GiB .* but a worker has 4\.99 GiB"):
        make_plan((1, 1, 1, 1, 8), **grid, block_shape=(1, 1, 1, 1, 8), budget=budget)


@pytest.mark.parametrize("shape", [None, (17, 1, 1501, 2048, 1936)])
def test_not_even_one_write_unit_fits(shape):
    with pytest.raises(PlanError) as caught:
        make_plan(
            EMBRYO,
            layout=Layout((1, 1, 64, 128, 128), (1, 1, 256, 256, 512)),
            halo=EMBRYO_HALO,
            exact_halo=True,
            block_shape=shape,
            budget=embryo(gib=1),
        )
    message = str(caught.value)
    assert "not even one write unit [1, 1, 256, 256, 512]" in message
    assert "needs 4.84 GiB" in message
    assert "has 1.00 GiB" in message
    for key in ("cluster.memory", "output.shards", "output.chunks", "blocks.memory_factor"):
        assert key in message


def test_less_memory_than_the_reserve():
    budget = Budget(1, 1, 10, 6, 1000)
    with pytest.raises(PlanError, match="not even one write unit"):
        auto_plan((1, 1, 1, 1, 1), Layout((1,) * 5), NO_HALO, budget)


def test_a_shape_of_broken_write_units_is_refused_with_the_nearest():
    with pytest.raises(PlanError, match=r"blocks\.shape must be whole multiples") as caught:
        make_plan(
            (4, 1, 100, 100, 100),
            layout=Layout((1, 1, 16, 32, 32)),
            halo=NO_HALO,
            exact_halo=True,
            block_shape=(4, 1, 3, 70, 200),
            budget=budget_of(10**9),
        )
    assert "got [4, 1, 3, 70, 200]" in str(caught.value)
    assert "[4, 1, 16, 64, 100]" in str(caught.value)


def test_a_shape_below_one_is_refused():
    with pytest.raises(PlanError, match=r"blocks\.shape must be at least 1"):
        make_plan(
            (1, 1, 1, 1, 8),
            layout=Layout((1, 1, 1, 1, 4)),
            halo=NO_HALO,
            exact_halo=True,
            block_shape=(1, 1, 1, 0, 4),
            budget=budget_of(10**9),
        )


def test_to_json_is_plain_and_tells_an_approximate_halo():
    plan = Plan(
        BlockGrid((1, 1, 1, 64, 64), (1, 1, 1, 32, 64), (0, 0, 0, 2, 2)),
        Layout((1, 1, 1, 16, 16), (1, 1, 1, 32, 32)),
        budget_of(10**6),
        exact_halo=False,
    )
    values = plan.to_json()
    assert json.loads(json.dumps(values)) == values
    assert values["exact_halo"] is False
    assert values["block_counts"] == [1, 1, 1, 2, 1]
    assert values["blocks"] == 2
    assert values["bytes_per_worker"] == plan.bytes_per_worker == 24 * 34 * 64 + 1000
    assert values["shards"] == [1, 1, 1, 32, 32]


# --- layouts --------------------------------------------------------------------------------------


def chosen(image, budget, halo=NO_HALO, chunks=None, shards=None, shards_auto=True):
    return choose_layout(
        image, halo, chunks=chunks, shards=shards, shards_auto=shards_auto, budget=budget
    )


@pytest.mark.parametrize(
    ("image", "chunks"),
    [
        (EMBRYO, (1, 1, 64, 128, 128)),
        ((500, 2, 1, 4096, 4096), (1, 1, 1, 1024, 1024)),
        ((500, 2, 10, 4096, 4096), (1, 1, 10, 256, 512)),
        ((500, 2, 1, 512, 512), (1, 1, 1, 512, 512)),
    ],
)
def test_automatic_chunks_hold_a_megavoxel_or_a_plane(image, chunks):
    assert chosen(image, embryo(), shards_auto=False) == Layout(chunks, None)


def test_the_embryo_is_thousands_of_files():
    layout = chosen(EMBRYO, embryo(), EMBRYO_HALO)
    assert layout.shards is not None
    assert 1000 < layout.write_units(EMBRYO) < 5000
    assert chosen(EMBRYO, embryo(), EMBRYO_HALO, shards_auto=False).write_units(EMBRYO) > 90_000


def test_a_long_series_of_small_planes_is_sharded_in_time():
    image = (100_000, 1, 1, 256, 256)
    layout = chosen(image, embryo())
    assert layout.shards == (32, 1, 1, 256, 256)


def test_few_files_need_no_shards():
    assert chosen((4, 1, 256, 512, 512), embryo()).shards is None


def test_shards_leave_several_blocks_to_every_worker():
    image = (5000, 1, 1, 512, 512)
    assert chosen(image, embryo(workers=500)).shards == (2, 1, 1, 512, 512)
    assert chosen(image, embryo(workers=1000)).shards is None


def test_a_small_image_still_has_several_blocks_a_worker():
    image = (4, 1, 24, 128, 128)
    assert chosen(image, budget_of(10**9, 2)).write_units(image) >= 4 * 2


def test_given_chunks_and_shards_are_kept():
    given_ = {"chunks": (1, 1, 8, 16, 16), "shards": (1, 1, 16, 32, 64), "shards_auto": False}
    assert chosen(EMBRYO, embryo(), **given_) == Layout((1, 1, 8, 16, 16), (1, 1, 16, 32, 64))


def test_automatic_chunks_divide_given_shards():
    layout = chosen(EMBRYO, embryo(), shards=(1, 1, 1501, 250, 384), shards_auto=False)
    assert layout == Layout((1, 1, 79, 125, 128), (1, 1, 1501, 250, 384))


@given(
    st.tuples(*[st.integers(1, n) for n in (3000, 4, 3000, 9000, 9000)]),
    st.tuples(*[st.integers(0, n) for n in (4, 0, 8, 30, 30)]),
    st.integers(1, 200),
    st.integers(10**6, 10**11),
)
@settings(deadline=None)
def test_automatic_layouts_keep_their_promises(image, halo, workers, room):
    budget = budget_of(room, workers)
    layout = chosen(image, budget, halo)
    assert all(c <= n for c, n in zip(layout.chunks, image, strict=True))
    assert layout.chunks[:2] == (1, 1)
    assert prod(layout.chunks) < 2 * 2**20
    if layout.shards is not None:
        padded = prod(BlockGrid(image, layout.shards, halo).largest_padded)
        assert 4 * padded <= room
        assert layout.write_units(image) >= 4 * workers
        assert layout.shards[1] == 1
        for s, c, n in zip(layout.shards, layout.chunks, image, strict=True):
            assert s % c == 0
            assert s - n < c  # overhangs by less than a chunk


@pytest.mark.parametrize(
    ("chunks", "shards", "rule"),
    [
        ((1, 1, 8, 8, 8), (1, 1, 8, 12, 8), r"output\.shards must be a whole multiple of output\."),
        ((1, 1, 8, 8, 8), (1, 1, 4, 8, 8), r"output\.shards must be a whole multiple of output\."),
        ((1, 1, 0, 8, 8), None, r"output\.chunks must be at least 1"),
        ((1, 1, 1, 8, 8), (1, 1, 1, 0, 8), r"output\.shards must be at least 1"),
    ],
)
def test_impossible_layouts_are_refused(chunks, shards, rule):
    with pytest.raises(PlanError, match=rule):
        Layout(chunks, shards)


def test_an_older_format_has_neither_shards_nor_huge_chunks():
    chunks = (1, 1, 8, 8, 8)
    with pytest.raises(
        PlanError, match=r"output\.shards must be auto or null .*got \[1, 1, 8, 8, 8\]"
    ):
        Layout(chunks, chunks, "ome-zarr-0.4")
    huge = (1, 1, 512, 1024, 1024)
    Layout(huge).check_bytes(4)
    Layout(huge, None, "ome-zarr-0.4").check_bytes(2)
    with pytest.raises(PlanError, match=r"output\.chunks must be less than 2 GiB .* are 2\.00 GiB"):
        Layout(huge, None, "ome-zarr-0.4").check_bytes(4)


def test_the_write_unit_is_the_shard_or_else_the_chunk():
    assert Layout((1, 1, 8, 8, 8)).write_unit == (1, 1, 8, 8, 8)
    assert Layout((1, 1, 8, 8, 8), (1, 1, 16, 8, 8)).write_unit == (1, 1, 16, 8, 8)
