"""What every mistake in the YAML file is told: line, key, rule, value got, what to do."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from denoise5d.config import load_config
from denoise5d.errors import ConfigError

PATHS = "input: {path: a.zarr}\noutput: {path: b.zarr}\n"  # rows that add to it start at line 3


def complaints(folder: Path, text: str | bytes) -> list[str]:
    """Return the lines of the ConfigError, without the folder."""
    path = folder / "run.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    return str(caught.value).replace(f"{folder}{os.sep}", "").splitlines()


FIVE = "must have five entries (T, C, Z, Y, X)"
LIST_OF_FIVE = "a list of five whole numbers (T, C, Z, Y, X)"
GIVE_HALO = "write for example exact or [0, 0, 2, 10, 10]"
GIVE_STRIDE = "write for example auto or [1, 1, 3, 5, 5]"
GIVE_GAIN = "write for example 3.92 or [3.92, 4.1]"

ADDED = [  # below PATHS; the whole line that is expected
    ("denoise: {iterations: '4'}", "3: denoise.iterations: must be auto or a whole number, "
     "got '4' (YAML reads it as text: 4 is a number); write for example auto or 4"),
    ("denoise: {iterations: 4.0}", "3: denoise.iterations: must be a whole number, got 4.0; "
     "write for example auto or 4"),
    ("denoise: {iterations: true}", "3: denoise.iterations: must be auto or a whole number, "
     "got true; write for example auto or 4"),
    ("denoise: {iterations: yes}", "3: denoise.iterations: must be auto or a whole number, "
     "got yes (YAML reads it as true); write for example auto or 4"),
    ("denoise: {iterations: 0}", "3: denoise.iterations: must be at least 1, got 0; "
     "write for example auto or 4"),
    ("denoise:\n  iterations: 7", "4: denoise.iterations: must be at most 6, got 7; "
     "write for example auto or 4"),
    ("denoise:\n  iterations: 04", "4: denoise.iterations: 04 is read by YAML as an octal number; "
     "remove the leading 0, or quote it as text"),
    ("denoise:\n  iterations: 1:30", "4: denoise.iterations: 1:30 is read by YAML as a number to "
     "the base 60; put it in quotes, or write it out"),
    ("denoise:\n  iterations: !!int x", "4: denoise.iterations: x is not written as YAML expects"),
    ("denoise:\n  pvalue: 1e-1", "4: denoise.pvalue: must be a number, got 1e-1 "
     "(YAML reads it as text: 0.1 is a number); write for example 0.1"),
    ("denoise:\n  pvalue: 0,1", "4: denoise.pvalue: must be a number, got 0,1 "
     "(YAML reads it as text: 0.1 is a number); write for example 0.1"),
    ("denoise: {pvalue: 0}", "3: denoise.pvalue: must be greater than 0, got 0; "
     "write for example 0.1"),
    ("denoise: {pvalue: 1}", "3: denoise.pvalue: must be less than 1, got 1; "
     "write for example 0.1"),
    ("denoise: {pvalue: .nan}", "3: denoise.pvalue: must be a finite number, got .nan; "
     "write for example 0.1"),
    ("denoise: {pvalue:}", "3: denoise.pvalue: must be a number, got nothing; "
     "write for example 0.1"),
    ("denoise: {patch: 3}", f"3: denoise.patch: must be auto or {LIST_OF_FIVE}, got 3; "
     "write for example auto or [0, 0, 1, 3, 3]"),
    ("denoise: {patch: [0, 0, 1, 9, 3]}", "3: denoise.patch[3]: must be at most 8, got 9; "
     "write for example auto or [0, 0, 1, 3, 3]"),
    ("denoise: {patch: [0, 1, 1, 3, 3]}", "3: denoise.patch[1]: must be 0 for C, channels are "
     "denoised one by one, got 1; write for example auto or [0, 0, 1, 3, 3]"),
    ("denoise: [1]", "3: denoise: must be a group of keys, got [1]; "
     "write them below it, indented"),
    ("denoise: {itrations: 4}", "3: denoise.itrations: is not a known key, got 4; "
     "did you mean iterations?"),
    ("denoise: {retries: 4}", "3: denoise.retries: is not a known key, got 4; "
     "it belongs under blocks"),
    ("denoise: {shape: auto}", "3: denoise.shape: is not a known key, got auto; "
     "it belongs under input or blocks"),
    ("denoise: {blocks: {}}", "3: denoise.blocks: is not a known key, got {}; "
     "blocks belongs to the top level, without indentation"),
    ("denoise: {qqq: {a: {b: {}}}}", "3: denoise.qqq: is not a known key, got {a: {b: ...}}; "
     "known here: method, quality, patch, iterations, pvalue, ridge"),
    ("denoise: {method: bm4d}", "3: denoise.method: must be ridge or safir, got bm4d; "
     "write for example ridge"),
    ("denoise: {quality: good}", "3: denoise.quality: must be fast, standard or best, got good; "
     "write for example standard"),
    ("denoise:\n  quality: fast\n  patch: [0, 0, 1, 2, 2]", "5: denoise.patch: must not stand "
     "beside quality, got [0, 0, 1, 2, 2]; remove one of the two"),
    ("denoise:\n  iterations: 2\n  quality: best", "4: denoise.iterations: must not stand beside "
     "quality, got 2; remove one of the two"),
    ("denoise: {quality: best, pvalue: 0.1}", "3: denoise.pvalue: must not stand beside quality, "
     "got 0.1; remove one of the two"),
    ("denoise:\n  quality: standard\n  ridge:\n    rounds: 2", "5: denoise.ridge: must not stand "
     "beside quality, got {rounds: 2}; remove one of the two"),
    ("denoise: {method: safir, ridge: {group: 16}}", "3: denoise.ridge: must not stand beside "
     "method: safir, which refines nothing, got {group: 16}; remove one of the two"),
    ("denoise: {method: safir, quality: best}", "3: denoise.quality: contradicts method: safir, "
     "got best; remove one of the two, as fast is safir and the others are ridge"),
    ("denoise: {method: ridge, quality: fast}", "3: denoise.quality: contradicts method: ridge, "
     "got fast; remove one of the two, as fast is safir and the others are ridge"),
    ("denoise:\n  ridge:\n    serach: auto", "5: denoise.ridge.serach: is not a known key, "
     "got auto; did you mean search?"),
    ("denoise: {ridge: {qqq: 1}}", "3: denoise.ridge.qqq: is not a known key, got 1; "
     "known here: search, group, stride, rounds"),
    ("denoise: {ridge: {pvalue: 0.1}}", "3: denoise.ridge.pvalue: is not a known key, got 0.1; "
     "it belongs under denoise"),
    ("denoise: {rounds: 2}", "3: denoise.rounds: is not a known key, got 2; "
     "it belongs under denoise.ridge"),
    ("ridge: {rounds: 2}", "3: ridge: is not a known key, got {rounds: 2}; "
     "it belongs under denoise"),
    ("denoise:\n  ridge:\n    search: [0, 1, 1, 2, 2]", "5: denoise.ridge.search[1]: must be 0 for "
     "C, channels are denoised one by one, got 1; write for example auto or [1, 0, 1, 2, 2]"),
    ("denoise: {ridge: {search: [0, 0, 1, 2, 65]}}", "3: denoise.ridge.search[4]: must be at most "
     "64, got 65; write for example auto or [1, 0, 1, 2, 2]"),
    ("denoise: {ridge: {search: [2, 2]}}", f"3: denoise.ridge.search: {FIVE}, got [2, 2]; "
     "write for example auto or [1, 0, 1, 2, 2]"),
    ("denoise: {ridge: {stride: [1, 1, 0, 4, 4]}}", "3: denoise.ridge.stride[2]: must be at least "
     f"1, got 0; {GIVE_STRIDE}"),
    ("denoise: {ridge: {stride: [1, 0, 1, 4, 4]}}", "3: denoise.ridge.stride[1]: must be at least "
     f"1, got 0; {GIVE_STRIDE}"),
    ("denoise: {ridge: {stride: [1, 2, 1, 4, 4]}}", "3: denoise.ridge.stride[1]: must be 1 for C, "
     f"channels are denoised one by one, got 2; {GIVE_STRIDE}"),
    ("denoise: {ridge: {stride: 3}}", f"3: denoise.ridge.stride: must be auto or {LIST_OF_FIVE}, "
     f"got 3; {GIVE_STRIDE}"),
    ("denoise: {ridge: {group: 1}}", "3: denoise.ridge.group: must be at least 2, got 1; "
     "write for example auto or 48"),
    ("denoise: {ridge: {group: 257}}", "3: denoise.ridge.group: must be at most 256, got 257; "
     "write for example auto or 48"),
    ("denoise: {ridge: {rounds: 0}}", "3: denoise.ridge.rounds: must be at least 1, got 0; "
     "write for example 1"),
    ("denoise: {ridge: {rounds: 5}}", "3: denoise.ridge.rounds: must be at most 4, got 5; "
     "write for example 1"),
    ("denoise:\n  ridge: 2", "4: denoise.ridge: must be a group of keys, got 2; "
     "write them below it, indented"),
    ("Denoise: {}", "3: Denoise: is not a known key, got {}; did you mean denoise?"),
    ("<list>: 1", "3: <list>: is not a known key, got 1; "
     "known here: input, output, noise, denoise, blocks, cluster"),
    ("blocks:\n  halo:\n    - 0\n    - 0\n    - 1\n    - -8\n    - 1",
     f"8: blocks.halo[3]: must be at least 0, got -8; {GIVE_HALO}"),
    ("blocks:\n  halo:\n    [0, 2, 0, 0, 0]", "5: blocks.halo[1]: must be 0 for C, channels are "
     f"denoised one by one, got 2; {GIVE_HALO}"),
    ("blocks:\n  halo: [0, 0, 1]", f"4: blocks.halo: {FIVE}, got [0, 0, 1]; {GIVE_HALO}"),
    ("blocks:\n  halo: auto", f"4: blocks.halo: must be exact or {LIST_OF_FIVE}, got auto; "
     f"{GIVE_HALO}"),
    ("blocks:\n  halo: [0, 0, 1, x, 2]", "4: blocks.halo[3]: must be a whole number, got x; "
     f"{GIVE_HALO}"),
    ("blocks:\n  shape: [1, 1, 1, 1, 1, 1]", f"4: blocks.shape: {FIVE}, got [1, 1, 1, 1, 1, 1]; "
     "write for example auto or [17, 1, 1501, 512, 512]"),
    ("blocks:\n  shape: exact", f"4: blocks.shape: must be auto or {LIST_OF_FIVE}, got exact; "
     "write for example auto or [17, 1, 1501, 512, 512]"),
    ("blocks:\n  shape:", f"4: blocks.shape: must be auto or {LIST_OF_FIVE}, got nothing; "
     "write for example auto or [17, 1, 1501, 512, 512]"),
    ("blocks:\n  shape: [1, 1, 1, 1e3, 1]", "4: blocks.shape[3]: must be a whole number, got 1e3 "
     "(YAML reads it as text: 1000 is a number); "
     "write for example auto or [17, 1, 1501, 512, 512]"),
    ("blocks:\n  memory_factor: 0.9", "4: blocks.memory_factor: must be at least 1, got 0.9; "
     "write for example 6"),
    ("blocks:\n  memory_factor: .inf", "4: blocks.memory_factor: must be a finite number, "
     "got .inf; write for example 6"),
    ("blocks:\n  retries: -1", "4: blocks.retries: must be at least 0, got -1; "
     "write for example 2"),
    ("blocks:\n  retries: 1\n  halo: exact\n  retries: 2", "6: blocks.retries: is given twice, "
     "first in line 4; keep one of the two"),
    ("input: {path: c}", "3: input: is given twice, first in line 1; keep one of the two"),
    ("noise:", "3: noise: must be auto, or hold gain and offset, or sigma, got nothing; "
     "write for example auto or {gain: [3.92], offset: [-388]}"),
    ("noise: {}", "3: noise: must hold gain and offset, or sigma, got {}; or write noise: auto"),
    ("noise: {gain: 3}", "3: noise.offset: is missing, gain needs it; give it, or sigma alone"),
    ("noise: {offset: 3}", "3: noise.gain: is missing, offset needs it; give it, or sigma alone"),
    ("noise: {read_noise: 3}", "3: noise.gain: is missing, read_noise needs it; "
     "give gain and offset"),
    ("noise: {sigma: 3, read_noise: 2}", "3: noise.read_noise: must not stand beside sigma, "
     "got 2; remove one of the two"),
    ("noise: {sigma: 0}", "3: noise.sigma: must be greater than 0, got 0; "
     "write for example 20 or [20, 25]"),
    ("noise: {gain: -1, offset: 2}", f"3: noise.gain: must be greater than 0, got -1; {GIVE_GAIN}"),
    ("noise:\n  offset: [1, 2]\n  gain:\n  - 2\n  - 0.0",
     f"7: noise.gain[1]: must be greater than 0, got 0.0; {GIVE_GAIN}"),
    ("noise: {gain: 1, offset: 2, read_noise: -1}", "3: noise.read_noise: must be at least 0, "
     "got -1; write for example 2.0 or [2.0, 2.2]"),
    ("noise: {gain: [1, 2], offset: [1]}", "3: noise.offset: must be as long as noise.gain, one "
     "number for each channel, got [1]; write for example -388 or [-388, -402]"),
    ("noise: {gain: [], offset: 1}", f"3: noise.gain: must not be empty, got []; {GIVE_GAIN}"),
    ("noise: {gain: [x], offset: 1}", f"3: noise.gain[0]: must be a number, got x; {GIVE_GAIN}"),
    ("noise: {gain: high, offset: 1}", "3: noise.gain: must be a number or a list with a number "
     f"for each channel, got high; {GIVE_GAIN}"),
    ("noise: {gian: 2, sigma: 1}", "3: noise.gian: is not a known key, got 2; did you mean gain?"),
    ("cluster: {kind: pbs}", "3: cluster.kind: must be local, slurm or allocation, got pbs; "
     "write for example local or slurm or allocation"),
    ("cluster: {workers: 0}", "3: cluster.workers: must be at least 1, got 0; "
     "write for example auto or 2"),
    ("cluster: {cpus: 200000}", "3: cluster.cpus: must be at most 100000, got 200000; "
     "write for example auto or 4"),
    ("cluster: {memory: 64GB}", "3: cluster.memory: must be auto or a number of GiB without a "
     "unit, got 64GB; write for example auto or 32"),
    ("cluster: {memory: 0}", "3: cluster.memory: must be greater than 0, got 0; "
     "write for example auto or 32"),
    ("cluster: {dashboard: 8787}", "3: cluster.dashboard: must be text, in quotes if it looks "
     "like a number, got 8787; write for example localhost:8787"),
    ("cluster: {dashboard: ':8787'}", "3: cluster.dashboard: must be text of the form host:port, "
     "got ':8787'; write for example localhost:8787"),
    ("cluster: {dashboard: 'here:99999'}", "3: cluster.dashboard: must be text of the form "
     "host:port, got 'here:99999'; write for example localhost:8787"),
    ("yes: 1", "3: a key must be plain text, got yes (YAML reads it as true); "
     "put it in quotes or remove it"),
    ("blocks: {3: 1}", "3: blocks: a key must be plain text, got 3; put it in quotes or remove it"),
    ("blocks: {[1]: 1}", "3: blocks: a key must be plain text, got [1]; "
     "put it in quotes or remove it"),
    ("blocks: {<<: {}}", "3: blocks: a key must be plain text, got <<; "
     "put it in quotes or remove it"),
    ("blocks: {!!str [1]: 1}", "3: blocks: a key must be plain text, got [1]; "
     "put it in quotes or remove it"),
    ("blocks: !!python/object/apply:os.getcwd []", "3: blocks: the YAML tag "
     "!!python/object/apply:os.getcwd is not taken; remove it"),
    ("blocks: {shape: !!set {}}", "3: blocks.shape: the YAML tag !!set is not taken; remove it"),
]  # fmt: skip

WHOLE = [  # a file of its own; the whole line that is expected
    ("input: {}\noutput: {path: b}", "1: input.path: is required; write for example embryo.zarr"),
    ("input: {path: a}", "1: output.path: is required; write for example embryo-denoised.zarr"),
    ("\ninput: {path: a}\noutput:\n",
     "3: output.path: is required; write for example embryo-denoised.zarr"),
    ("- input", "1: must be a group of keys, got [input]; write them below it, indented"),
    ("hello", "1: must be a group of keys, got hello; write them below it, indented"),
    ("---", "1: must be a group of keys, got nothing; write them below it, indented"),
    ("input: {path: ''}\noutput: {path: b}",
     "1: input.path: must not be empty, got ''; write for example embryo.zarr"),
    ("input: {path: 3}\noutput: {path: b}", "1: input.path: must be text, in quotes if it looks "
     "like a number, got 3; write for example embryo.zarr"),
    ("input: {path: 's3://b/a'}\noutput: {path: b}", "1: input.path: must be a folder on this "
     "machine, not a URL, got 's3://b/a'; write for example embryo.zarr"),
    ('input: {path: "a\\0"}\noutput: {path: b}', "1: input.path: contains a character that is no "
     "text, got 'a\\x00'; remove it"),
    ('input: {path: "\\ud800"}\noutput: {path: b}', "1: input.path: contains a character that is "
     "no text, got '\\ud800'; remove it"),
    ('input: {path: "a\\nb"}\noutput: {path: b}', "1: input.path: must not hold line breaks or "
     "control characters, got 'a\\nb'; write for example embryo.zarr"),
    ('input: {path: a}\noutput: {path: "b\\x7f"}', "2: output.path: must not hold line breaks or "
     "control characters, got 'b\\x7f'; write for example embryo-denoised.zarr"),
    ('input: {path: a, dataset: "0\\u2028"}\noutput: {path: b}', "1: input.dataset: must not hold "
     "line breaks or control characters, got '0\\u2028'; write for example s1"),
    ("input: {path: a}\noutput: {path: ./x/../a}", "2: output.path: must not be the input itself, "
     "which stays as it is, got ./x/../a; give another folder"),
    ("input: {path: a}\noutput:\n  path: a/b", "3: output.path: must not lie inside the input, "
     "which stays as it is, got a/b; give another folder"),
    ("input: {path: a}\noutput: {path: .}", "2: output.path: must not contain the input, "
     "which stays as it is, got .; give another folder"),
    ("input: {path: ~nobody-of-that-name/a}\noutput: {path: b}", "1: input.path: cannot be "
     "followed (Could not determine home directory.), got ~nobody-of-that-name/a; "
     "correct the path"),
    ("input:\n  path: a\n  axes: TZ\noutput: {path: b}", "3: input.axes: must be letters of "
     "TCZYX, each once, with Y and X, got TZ; write for example TZYX"),
    ("input:\n  path: a\n  axes: YYX\noutput: {path: b}", "3: input.axes: must be letters of "
     "TCZYX, each once, with Y and X, got YYX; write for example TZYX"),
    ("input:\n  path: a\n  axes: SYX\noutput: {path: b}", "3: input.axes: must be letters of "
     "TCZYX, each once, with Y and X, got SYX; write for example TZYX"),
    ("input:\n  path: a\n  axes: [Y, X]\noutput: {path: b}", "3: input.axes: must be text, in "
     "quotes if it looks like a number, got [Y, X]; write for example TZYX"),
    ("input:\n  path: a\n  shape: [1, 1, 1, 2, 2]\noutput: {path: b}", "1: input.dtype: is "
     "missing, shape and dtype go together; give both or none"),
    ("input:\n  path: a\n  dtype: uint8\noutput: {path: b}", "1: input.shape: is "
     "missing, shape and dtype go together; give both or none"),
    ("input:\n  path: a\n  dtype: float64\n  shape: [1, 1, 1, 2, 2]\noutput: {path: b}",
     "3: input.dtype: must be uint8, uint16, uint32, int8, int16, int32 or float32, "
     "got float64; write for example uint16"),
    ("input:\n  path: a\n  dtype: int8\n  shape: [1, 1, 0, 2, 2]\noutput: {path: b}",
     "4: input.shape[2]: must be at least 1, got 0; write for example [17, 1, 1501, 2048, 1936]"),
    ("input:\n  path: a\n  dtype: int8\n  shape: 7\noutput: {path: b}", "4: input.shape: must be "
     "a list in square brackets, got 7; write for example [17, 1, 1501, 2048, 1936]"),
    ("input: {path: a}\noutput:\n  path: b\n  dtype: uint16", "4: output.dtype: must be same or "
     "float32, got uint16; write for example same or float32"),
    ("input: {path: a}\noutput:\n  path: b\n  chunks: null", f"4: output.chunks: must be auto or "
     f"{LIST_OF_FIVE}, got nothing; write for example auto or [1, 1, 64, 128, 128]"),
    ("input: {path: a}\noutput:\n  path: b\n  shards: none", "4: output.shards: must be auto, "
     f"null (no shards) or {LIST_OF_FIVE}, got none; "
     "write for example auto or null or [1, 1, 256, 512, 512]"),
    ("input: {path: a}\noutput:\n  path: b\n  shards: [1, 1, 2, 3, 2]\n  format: ome-zarr-0.4",
     "4: output.shards: must not stand beside format: ome-zarr-0.4, which has no shards, "
     "got [1, 1, 2, 3, 2]; remove one of the two"),
    ("input: {path: a}\noutput:\n  path: b\n  format: 0.4",
     "4: output.format: must be ome-zarr-0.5 or ome-zarr-0.4, got 0.4; "
     "write for example ome-zarr-0.5 or ome-zarr-0.4"),
    ("input: {path: a}\noutput:\n  path: b\n  chunks: [1, 1, 2, 2, 2]\n  shards: [1, 1, 2, 3, 2]",
     "5: output.shards[3]: must be a multiple of output.chunks[3], which is 2, got 3; "
     "write for example auto or null or [1, 1, 256, 512, 512]"),
    ("", "is empty; it needs at least input.path and output.path"),
    ("# nothing\n", "is empty; it needs at least input.path and output.path"),
    ("input:\n\tpath: a\n", "2: is not valid YAML: while scanning for the next token, found "
     "character '\\t' that cannot start any token; indent with spaces, never with tabs"),
    ("input:\n  path: a: b\n", "2: is not valid YAML: mapping values are not allowed here; "
     "check the indentation, and quote text that contains ': '"),
    ('input:\n  path: "C:\\data"\n', "2: is not valid YAML: while scanning a double-quoted scalar, "
     "found unknown escape character 'd'; in double quotes a backslash is special: "
     "use 'single quotes'"),
    ("input: {path: a\noutput: 3", "2: is not valid YAML: while parsing a flow mapping, expected "
     "',' or '}', but got ':'; check that every [ and { is closed"),
    ("input:\n  path: a\nfoo\n", "4: is not valid YAML: while scanning a simple key, could not "
     "find expected ':'; check that the key is followed by ': ' and well indented"),
    ("a: 1\n---\nb: 1\n", "2: is not valid YAML: expected a single document in the stream, but "
     "found another document; keep one document: remove the line ---"),
    ("a: *b\n", "1: is not valid YAML: found undefined alias 'b'"),
    ("a: 1\nb: \x07\n", "2: is not valid YAML: holds a control character; remove it"),
    (b"a: 1\n# \xe4\n", "2: is not UTF-8 text, got byte 0xe4; "
     "give the YAML file, saved as UTF-8"),
    ('a: "\\UFFFFFFFF"', "is not valid YAML: "),
    ("[" * 2000, "is nested too deeply; three levels are all it takes"),
    (" " * 70_000, "is larger than 64 KiB, so no YAML file of a run; give that file"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), ADDED)
def test_a_mistake_gets_its_message(tmp_path: Path, text: str, expected: str) -> None:
    assert complaints(tmp_path, PATHS + text) == [f"run.yaml:{expected}"]


@pytest.mark.parametrize(("text", "expected"), WHOLE)
def test_a_wrong_file_gets_its_message(tmp_path: Path, text: str | bytes, expected: str) -> None:
    between = ":" if expected[0].isdigit() else ": "
    assert any(
        line.startswith(f"run.yaml{between}{expected}") for line in complaints(tmp_path, text)
    )


def test_every_mistake_at_once_in_the_order_of_lines(tmp_path: Path) -> None:
    text = """\
input:
  path: a.zarr
  axes: XX
  size: 3
output:
  path: a.zarr
  chunks: [1, 1, 64, 0]
noise: {gain: [0, -1], offset: [3]}
denoise:
  iterations: 9
  iterations: 010
blocks:
  halo: [0, 1, -1, a, .nan]
cluster: {memory: true, cpus: 1.5}
"""
    found = [line.split(": ")[0:2] for line in complaints(tmp_path, text)]
    assert found == [
        ["run.yaml:3", "input.axes"],
        ["run.yaml:4", "input.size"],
        ["run.yaml:6", "output.path"],
        ["run.yaml:7", "output.chunks[3]"],
        ["run.yaml:7", "output.chunks"],
        ["run.yaml:8", "noise.gain[0]"],
        ["run.yaml:8", "noise.gain[1]"],
        ["run.yaml:8", "noise.offset"],
        ["run.yaml:11", "denoise.iterations"],
        ["run.yaml:11", "denoise.iterations"],
        ["run.yaml:13", "blocks.halo[2]"],
        ["run.yaml:13", "blocks.halo[3]"],
        ["run.yaml:13", "blocks.halo[4]"],
        ["run.yaml:14", "cluster.cpus"],
        ["run.yaml:14", "cluster.memory"],
    ]


def test_long_values_are_cut(tmp_path: Path) -> None:
    (line,) = complaints(tmp_path, f"{PATHS}blocks: {{halo: {'x' * 500}}}")
    assert "got " + "x" * 57 + "...;" in line
    (line,) = complaints(tmp_path, f"{PATHS}denoise: {list(range(100))}")
    assert "got [0, 1, 2, 3, 4, 5, 6, 7, 8, ...];" in line


def test_aliases_that_multiply_or_recurse_do_no_harm(tmp_path: Path) -> None:
    bomb = "a0: &a0 [x, x]\n" + "".join(
        f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 40)
    )
    assert len(complaints(tmp_path, PATHS + bomb)) == 40
    (line,) = complaints(tmp_path, f"{PATHS}blocks: &b {{halo: *b}}")
    assert line.startswith("run.yaml:3: blocks.halo: must be exact or a list")


def test_a_link_to_the_input_is_the_input(tmp_path: Path) -> None:
    (tmp_path / "a.zarr").mkdir()
    (tmp_path / "b.zarr").symlink_to(tmp_path / "a.zarr")
    (line,) = complaints(tmp_path, PATHS)
    assert "must not be the input itself" in line


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: does not exist; check the name"):
        load_config(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="is a folder; give the YAML file"):
        load_config(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot be read: Not a directory"):
        load_config(tmp_path / "file" / "run.yaml")


def test_a_file_without_permission_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(PATHS)
    path.chmod(stat.S_IWUSR)
    if os.access(path, os.R_OK):  # root reads everything: let open refuse in its place

        def refuse(*_: object) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ConfigError, match=r"run\.yaml: cannot be read: Permission denied"):
        load_config(path)
