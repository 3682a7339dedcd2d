"""What is done stays done, whatever happens to the driver while it writes."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from denoise5d.errors import FingerprintError, OutputError
from denoise5d.ledger import Ledger, check_fingerprint, diff_fingerprints, discard, run_folder
from denoise5d.records import BlockRecord, StageSeconds

FINGERPRINT = {
    "input": {"path": "embryo.zarr", "shape": [17, 1, 1501, 2048, 1936]},
    "noise": [{"gain": 3.92, "offset": -388.0}],
    "halo": [2, 0, 4, 10, 10],
}
HEADER = {"blocks": 20, "fingerprint": FINGERPRINT, "created": "2025-01-01T00:00:00+00:00"}


def record(block, **changes):
    seconds = StageSeconds(read=0.5, kernel=10.25, write=1.0, verify=0.25, wait=2.5)
    plain = BlockRecord(
        block, "worker-0", "4711", "2025-01-01T00:00:01+00:00", seconds, 2**30, ("ab", "cd"), 1
    )
    return replace(plain, **changes)


@pytest.fixture
def path(tmp_path):
    return run_folder(tmp_path / "out.zarr") / "ledger.jsonl"


def written(path, blocks=(3, 0, 7)):
    ledger = Ledger.create(path, HEADER)
    ledger.append(record(block) for block in blocks)
    return ledger


def test_run_folder_lies_beside_the_output():
    assert run_folder(Path("a/b/out.zarr")) == Path("a/b/out.zarr.denoise5d")


def test_records_survive_reopening(path):
    failed = ("a worker died", "no <input> \u00b5")
    records = [record(3), record(0, job=None, attempts=3, failures=failed), record(7, checksums=())]
    ledger = Ledger.create(path, HEADER)
    ledger.append(records[:2])
    ledger.append(records[2:])
    again = Ledger.open(path)
    for opened in (ledger, again):
        assert list(opened.records()) == records
        assert opened.done_count == 3
        assert [block for block in range(20) if opened.is_done(block)] == [0, 3, 7]
        assert list(opened.remaining()) == sorted(set(range(20)) - {0, 3, 7})
        assert list(opened.done()) == [0, 3, 7]
        assert opened.header.items() >= HEADER.items()


def test_a_ledger_from_before_failures_were_noted_is_read(path):
    written(path)
    lines = path.read_text()
    assert ',"failures":[]' in lines
    path.write_text(lines.replace(',"failures":[]', ""))
    assert [entry.failures for entry in Ledger.open(path).records()] == [(), (), ()]


def test_every_line_is_json_and_the_first_is_the_header(path):
    written(path)
    header, *lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert header["fingerprint"] == FINGERPRINT
    assert [line["block"] for line in lines] == [3, 0, 7]
    assert lines[0]["seconds"] == {
        "read": 0.5,
        "kernel": 10.25,
        "write": 1.0,
        "verify": 0.25,
        "wait": 2.5,
    }


# --- crashes --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The bytes of a ledger of six blocks, written in three groups, and where its lines end."""
    path = tmp_path_factory.mktemp("whole") / "ledger.jsonl"
    ledger = Ledger.create(path, HEADER)
    for group in ([4], [1, 9], [0, 2, 3]):
        ledger.append(record(block) for block in group)
    return path.read_bytes()


@given(st.data())
@settings(deadline=None)
def test_a_ledger_cut_anywhere_holds_its_first_blocks_and_goes_on(whole, tmp_path_factory, data):
    header_end = whole.index(b"\n") + 1
    cut = data.draw(st.integers(header_end, len(whole)))
    garbage = data.draw(st.binary(max_size=600).map(lambda rest: rest.replace(b"\n", b"?")))
    path = tmp_path_factory.mktemp("cut") / "ledger.jsonl"
    path.write_bytes(whole[:cut] + (garbage if whole[cut - 1 : cut] != b"\n" else b""))
    expected = [4, 1, 9, 0, 2, 3][: whole[header_end:cut].count(b"\n")]

    ledger = Ledger.open(path)
    assert [entry.block for entry in ledger.records()] == expected
    ledger.append([record(19)])
    ledger.append([record(18)])
    again = Ledger.open(path)
    assert [entry.block for entry in again.records()] == [*expected, 19, 18]
    assert again.done_count == len(expected) + 2


@given(st.data())
@settings(deadline=None)
def test_a_ledger_cut_within_its_header_is_refused(whole, tmp_path_factory, data):
    cut = data.draw(st.integers(0, whole.index(b"\n")))
    path = tmp_path_factory.mktemp("cut") / "ledger.jsonl"
    path.write_bytes(whole[:cut])
    with pytest.raises(OutputError, match=r"ledger\.jsonl:1: the first line must be the header"):
        Ledger.open(path)


def test_looking_never_changes_a_torn_ledger(path):
    written(path)
    with path.open("ab") as file:
        file.write(b'{"block":5,"worker":"w')
    before = path.read_bytes()
    looking = Ledger.open(path, read_only=True)
    assert looking.done_count == len(list(looking.records())) == 3
    with pytest.raises(ValueError, match="read only"):
        looking.append([record(5)])
    Ledger.open(path)  # not even a driver does, before it has something to append
    assert path.read_bytes() == before


def test_looking_while_a_driver_appends(path):
    ledger = written(path, [1])
    assert Ledger.open(path, read_only=True).done_count == 1
    ledger.append([record(2), record(3)])
    assert Ledger.open(path, read_only=True).done_count == 3


def test_an_append_that_fails_leaves_nothing_done(path, monkeypatch):
    ledger = written(path, [1])

    def full(_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            ledger.append([record(2, worker="a name of great length" * 20)])
    assert not ledger.is_done(2)
    assert ledger.done_count == 1
    ledger.append([record(5)])
    assert [entry.block for entry in Ledger.open(path).records()] == [1, 5]


def test_done_only_after_one_write_and_one_fsync(path, monkeypatch):
    ledger = Ledger.create(path, HEADER)
    synced = []
    fsync = os.fsync

    def counting(descriptor):
        assert ledger.done_count == 0
        fsync(descriptor)
        synced.append(path.read_bytes().count(b"\n"))

    monkeypatch.setattr(os, "fsync", counting)
    ledger.append(record(block) for block in range(10))
    assert synced == [11]
    assert ledger.done_count == 10


def test_a_ledger_is_complete_before_it_has_its_name(path, monkeypatch):
    def crash(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", crash)
        with pytest.raises(KeyboardInterrupt):
            Ledger.create(path, HEADER)
    assert not path.exists()
    assert written(path).done_count == 3


# --- damage ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "damage",
    [
        b"\x00\x00\x00\x00\n",
        b"[]\n",
        b"17\n",
        b'{"block":5}\n',
        b'{"block":5,"worker":"w',  # torn, and then something was appended behind it
        b"\n",
    ],
)
def test_a_damaged_line_in_the_middle_is_refused_by_number(path, damage):
    written(path)
    header, first, *rest = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([header, first, damage, *rest]))
    with pytest.raises(OutputError, match=r"ledger\.jsonl:3: must be the record of a finished"):
        Ledger.open(path)


@pytest.mark.parametrize("block", [-1, 20, "3", 2.0, True, None])
def test_a_wrong_block_in_the_file_is_refused(path, block):
    written(path)
    lines = path.read_text().replace('{"block":0,', f'{{"block":{json.dumps(block)},')
    path.write_text(lines)
    with pytest.raises(OutputError, match=r"ledger\.jsonl:3:.*is not one of the run's 20"):
        Ledger.open(path)


def test_a_block_of_another_run_is_not_appended(path):
    ledger = written(path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="block 20 is not one of the run's 20"):
        ledger.append([record(1), record(20)])
    assert path.read_bytes() == before
    assert not ledger.is_done(1)


def test_a_block_done_twice_counts_once(path):
    ledger = written(path, [1])
    before = path.read_bytes()
    ledger.append([record(1, worker="late")])
    assert path.read_bytes() == before
    ledger.append([record(2), record(2, worker="late"), record(1)])
    assert [(entry.block, entry.worker) for entry in ledger.records()] == [
        (1, "worker-0"),
        (2, "worker-0"),
    ]
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines, lines[-1]]))  # as another version might have written
    again = Ledger.open(path)
    assert again.done_count == len(list(again.records())) == 2


def test_a_missing_ledger_is_refused(path):
    with pytest.raises(OutputError, match="is missing: no run was begun"):
        Ledger.open(path)


@pytest.mark.parametrize(
    "line", ["{}", "[1, 2]", '{"format": 2, "blocks": 5}', '{"format": 1, "blocks": "5"}']
)
def test_other_files_are_no_ledgers(path, line):
    path.parent.mkdir()
    path.write_text(line + "\n")
    with pytest.raises(OutputError, match="must be the header of a ledger of format 1"):
        Ledger.open(path)


@pytest.mark.parametrize("blocks", [None, 0, -3, "5"])
def test_a_header_needs_its_number_of_blocks(path, blocks):
    with pytest.raises(ValueError, match="the header needs `blocks`"):
        Ledger.create(path, {"blocks": blocks})
    assert not path.exists()


def test_create_never_replaces_a_ledger(path):
    written(path)
    with pytest.raises(OutputError, match="`denoise5d run --overwrite`"):
        Ledger.create(path, HEADER)
    assert Ledger.open(path).done_count == 3


def test_discard_makes_room_for_a_new_run(path):
    discard(path)  # nothing there: nothing to do
    written(path)
    discard(path)
    assert Ledger.create(path, HEADER).done_count == 0


def test_ten_million_blocks_take_one_byte_each(path):
    ledger = Ledger.create(path, {"blocks": 10_000_000})
    ledger.append([record(9_999_999)])
    again = Ledger.open(path)
    assert again.is_done(9_999_999)
    assert not again.is_done(0)
    assert next(again.remaining()) == 0


# --- fingerprints ---------------------------------------------------------------------------------


def test_equal_fingerprints_do_not_differ(path):
    written(path)
    same = {
        "halo": (2, 0, 4, 10, 10),
        "noise": ({"gain": 3.92, "offset": -388.0},),
        "input": FINGERPRINT["input"],
    }
    assert diff_fingerprints(FINGERPRINT, same) == []
    check_fingerprint(path, same)


def test_differences_have_dotted_keys_and_both_values():
    new = {
        "input": {"path": "other.zarr", "shape": [17, 1, 1501, 2048, 1936]},
        "noise": [{"gain": 4, "offset": -388.0}],
        "halo": [2, 0, 4, 10, 12],
        "kernel": {"version": "2"},
    }
    assert diff_fingerprints(FINGERPRINT, new) == [
        "halo: [2, 0, 4, 10, 10] -> [2, 0, 4, 10, 12]",
        'input.path: "embryo.zarr" -> "other.zarr"',
        'kernel.version: (none) -> "2"',
        "noise[0].gain: 3.92 -> 4",
    ]


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ({"a": 1}, {}, "a: 1 -> (none)"),
        ({"a": None}, {"a": False}, "a: null -> false"),
        ({"a": {}}, {"a": []}, "a: {} -> []"),
        ({"a": [{"b": 1}]}, {"a": [{"b": 1}, {"b": 2}]}, "a[1].b: (none) -> 2"),
        ({"a": {"b": 1, "c": 2}}, {"a": None}, 'a: {"b": 1, "c": 2} -> null'),
    ],
)
def test_a_difference(old, new, line):
    assert diff_fingerprints(old, new) == [line]


def test_another_fingerprint_is_refused_with_the_keys_and_the_ways_out(path):
    written(path)
    with pytest.raises(FingerprintError) as caught:
        check_fingerprint(path, {**FINGERPRINT, "halo": [0, 0, 0, 0, 0], "iterations": 4})
    message = str(caught.value)
    assert "halo: [2, 0, 4, 10, 10] -> [0, 0, 0, 0, 0]" in message
    assert "iterations: (none) -> 4" in message
    assert "input" not in message
    for way in ("Restore the old values", "output.path", "--overwrite"):
        assert way in message


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
    ),
    max_leaves=8,
)
fingerprints = st.dictionaries(st.sampled_from("abc"), values, max_size=3)


@given(fingerprints, fingerprints)
def test_no_difference_goes_unseen(old, new):
    same = json.dumps(old, sort_keys=True) == json.dumps(new, sort_keys=True)
    assert (diff_fingerprints(old, new) == []) == same
