from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import segyio
from hypothesis import given, settings
from hypothesis import strategies as st

from outcrop.errors import OutcropError
from outcrop.sources.volumes import open_volume
from outcrop.sources.volumes.segy_headers import (
    NoGridError,
    find_grid,
    read_layout,
    read_trace_word,
)
from tests.cubes import CROSSLINES, INLINES, ramp, write_segy
from tests.shared import DATA, needs_shared

SEGY = DATA / "segy"
PLACES = [(i, j) for i in range(5) for j in range(4)]
SERPENTINE = [(i, j if i % 2 == 0 else 3 - j) for i in range(5) for j in range(4)]
SHUFFLED = [PLACES[k] for k in np.random.default_rng(3).permutation(20)]


def whole(path, **options) -> np.ndarray:
    volume = open_volume(path, **options)
    with volume.reader() as reader:
        cube = reader.slices(0, 0, volume.shape[0])
        for axis in (1, 2):
            slices = reader.slices(axis, 0, volume.shape[axis])
            assert np.array_equal(np.moveaxis(slices, 0, axis), cube, equal_nan=True)
    return cube


@needs_shared
@pytest.mark.parametrize(
    ("name", "endian", "dtype"),
    [("f3", "big", "int16"), ("small", "big", "float32"), ("small-lsb", "little", "float32")],
)
def test_real_files_equal_those_of_segyio(name, endian, dtype):
    path = SEGY / f"{name}.sgy"
    with segyio.open(path, endian=endian) as file:
        expected = segyio.tools.cube(file)
        inlines, crosslines, times = file.ilines, file.xlines, file.samples
    volume = open_volume(path)
    assert volume.shape == expected.shape
    assert volume.dtype == np.dtype(dtype)
    assert volume.axes == ("inline", "crossline", "sample")
    assert np.array_equal(whole(path), expected)
    for known, read in zip((inlines, crosslines, times), volume.coordinates, strict=True):
        assert np.array_equal(known, read)


@pytest.mark.parametrize("endian", ["big", "little"])
@pytest.mark.parametrize(
    ("code", "dtype"),
    [
        (1, "float32"),
        (2, "float32"),
        (3, "int16"),
        (5, "float32"),
        (6, "float32"),
        (8, "float32"),
        (9, "float32"),
        (10, "float32"),
        (11, "uint16"),
        (12, "float32"),
        (16, "uint8"),
    ],
)
def test_every_sample_format(tmp_path, code, dtype, endian):
    signed = code in (1, 2, 3, 5, 6, 8, 9)
    cube = ramp("float64") % 128 - 50 * signed
    path = write_segy(tmp_path / "a.sgy", cube, code=code, endian=endian)
    assert open_volume(path).dtype == np.dtype(dtype)
    assert np.array_equal(whole(path), cube)


@given(values=st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=6, max_size=6))
@settings(max_examples=30, deadline=None)
def test_ibm_floats_equal_those_of_segyio(tmp_path_factory, values):
    path = tmp_path_factory.mktemp("ibm") / "a.sgy"
    write_segy(path, np.broadcast_to(np.array(values), (2, 2, 6)), code=1)
    with segyio.open(path, ignore_geometry=True) as file:
        assert np.array_equal(whole(path), file.trace.raw[:].reshape(2, 2, 6))


@pytest.mark.parametrize(
    "places",
    [PLACES, [(i, j) for j in range(4) for i in range(5)], SERPENTINE, SHUFFLED],
    ids=["inline", "crossline", "serpentine", "shuffled"],
)
def test_the_grid_is_found_for_any_order_of_traces(tmp_path, places):
    cube = ramp()
    path = write_segy(tmp_path / "a.sgy", cube, places)
    inlines, crosslines, _ = open_volume(path).coordinates
    if places is SHUFFLED:  # neither number is in an order, so both ascend
        cube = cube[:, ::-1]
        assert list(crosslines) == sorted(CROSSLINES)
    else:
        assert list(crosslines) == list(CROSSLINES)
    assert list(inlines) == list(INLINES)
    assert np.array_equal(whole(path), cube)


def test_many_batches_with_unmapped_pages(tmp_path, monkeypatch):
    monkeypatch.setattr("outcrop.sources.volumes.npy._HELD_BYTES", 0)
    monkeypatch.setattr("outcrop.sources.volumes.segy._BATCH_BYTES", 1 << 14)
    monkeypatch.setattr("outcrop.sources.volumes.segy_headers._TRACES_AT_ONCE", 64)
    cube = ramp(shape=(20, 30, 40))
    places = [(i, j) for j in range(30) for i in range(20)]
    path = write_segy(tmp_path / "a.sgy", cube, places, inlines=range(20), crosslines=range(30))
    assert np.array_equal(whole(path), cube)


def test_lines_have_the_direction_of_segyio(tmp_path):
    path = write_segy(tmp_path / "a.sgy", ramp(), inlines=[9, 7, 5, 3, 1], crosslines=[4, 3, 2, 1])
    with segyio.open(path) as file:
        assert np.array_equal(whole(path), segyio.tools.cube(file))
        assert list(open_volume(path).coordinates[0]) == list(file.ilines)


def test_line_numbers_at_other_header_bytes(tmp_path):
    path = write_segy(tmp_path / "a.sgy", ramp(), at=(9, 21))
    assert np.array_equal(whole(path, inline_byte=9, crossline_byte=21), ramp())
    with pytest.raises(OutcropError, match=r"byte 189 and crossline at 193: has no geometry"):
        open_volume(path)
    for byte in (0, 238, 999):
        with pytest.raises(
            OutcropError, match=f"240 bytes, so none has a word at byte {byte}; pass"
        ):
            open_volume(path, inline_byte=byte)


def test_a_single_line_and_a_single_trace_are_volumes(tmp_path):
    for shape in ((1, 7, 6), (7, 1, 6), (1, 1, 6)):
        path = write_segy(
            tmp_path / "a.sgy", ramp(shape=shape), inlines=range(7), crosslines=range(7)
        )
        assert np.array_equal(whole(path), ramp(shape=shape))


@pytest.mark.parametrize("code", [3, 5])
def test_gaps_are_nan_on_request_only(tmp_path, code):
    cube = ramp()
    held = [place for place in PLACES if place not in [(1, 2), (3, 0), (3, 1), (3, 2), (3, 3)]]
    path = write_segy(tmp_path / "a.sgy", cube, held, code=code)
    line = r"5 of 20 traces .* are missing \(first: inline 102, crossline 29\); regularise"
    with pytest.raises(OutcropError, match=line):
        open_volume(path)
    cube[1, 2] = cube[3] = np.nan
    assert open_volume(path, gaps=True).dtype == np.float32
    assert np.array_equal(whole(path, gaps=True), cube, equal_nan=True)


def test_a_missing_last_trace_is_reported(tmp_path):
    path = write_segy(tmp_path / "a.sgy", ramp(), PLACES[:-1])
    with pytest.raises(OutcropError, match=r"1 of 20 .* is missing \(first: inline 108, crossl"):
        open_volume(path)


def test_uneven_lines_are_missing_traces():
    with pytest.raises(NoGridError, match=r"6 of 12 .* \(first: inline 2, crossline 5\)"):
        find_grid(np.array([1, 1, 3, 3, 6, 6]), np.array([5, 7] * 3), lambda: np.zeros(6))


def test_prestack_and_duplicates_raise_different_errors(tmp_path):
    twice = [place for place in PLACES for _ in range(2)]
    path = write_segy(tmp_path / "a.sgy", ramp(), twice, offsets=[100, 300] * 20)
    with pytest.raises(OutcropError, match=r"is prestack: up to 2 traces .* offsets 100 to 300"):
        open_volume(path)
    path = write_segy(tmp_path / "b.sgy", ramp(), [*PLACES, (2, 3)])
    line = r"up to 2 traces at 1 position .* \(first: inline 104, crossline 28\); remove the"
    with pytest.raises(OutcropError, match=line):
        open_volume(path)


def test_sparse_line_numbers_need_no_memory():
    random = np.random.default_rng(0)
    with pytest.raises(NoGridError, match=r"has no inline × crossline grid \(1000 traces for"):
        find_grid(*random.integers(0, 1 << 31, (2, 1000)), lambda: np.zeros(1000), gaps=True)


def test_times_need_an_interval(tmp_path):
    path = write_segy(tmp_path / "a.sgy", ramp(), interval=2000)
    assert list(open_volume(path).coordinates[2]) == [0, 2, 4, 6, 8, 10]
    path = write_segy(tmp_path / "b.sgy", ramp(), interval=0)
    assert open_volume(path).coordinates[2] is None


def test_long_traces_and_extended_textual_headers(tmp_path):
    cube = np.arange(2 * 40000, dtype="float32").reshape(2, 1, 40000)
    assert np.array_equal(whole(write_segy(tmp_path / "a.sgy", cube)), cube)
    content = write_segy(tmp_path / "b.sgy", ramp()).read_bytes()
    more = content[:3504] + (2).to_bytes(2, "big") + content[3506:3600] + bytes(6400)
    (tmp_path / "c.sgy").write_bytes(more + content[3600:])
    assert np.array_equal(whole(tmp_path / "c.sgy"), ramp())


@needs_shared
@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("shot-gather", r"has no geometry \(all 61 traces have inline 0, crossline 0\); pass the"),
        ("broken", "are not a multiple of traces"),
    ],
)
def test_real_files_without_a_grid_raise_a_one_line_error(name, line):
    with pytest.raises(OutcropError, match=line) as caught:
        open_volume(SEGY / f"{name}.sgy")
    assert "\n" not in str(caught.value)


def _patched(at: int, value: int):
    return lambda content: content[:at] + value.to_bytes(2, "big", signed=True) + content[at + 2 :]


@pytest.mark.parametrize(
    ("damage", "line"),
    [
        (lambda content: b"", "is not SEG-Y: it has 0 bytes, but the headers need 3600"),
        (lambda content: content[:3000], "is not SEG-Y: it has 3000 bytes"),
        (lambda content: content[:3600], "are not a multiple of traces"),
        (lambda content: content[:-5], "are not a multiple of traces"),
        (lambda content: content[:-264], "1 of 20 traces"),
        (lambda content: content[:3700], "are not a multiple of traces"),
        (_patched(3224, 0), r"an unsupported sample format \(code 0\)"),
        (_patched(3224, 4), r"an unsupported sample format \(code 4\)"),
        (_patched(3224, 7), r"an unsupported sample format \(code 7\)"),
        (_patched(3220, 0), "declares traces of 0 samples"),
        (_patched(3220, 7), "are not a multiple of traces"),
        (_patched(3504, -1), "does not declare the number of extended textual headers"),
        (lambda content: b"a picture of a cube\n" * 300, "is not SEG-Y"),
    ],
)
def test_damaged_headers_raise_a_one_line_error(tmp_path, damage, line):
    content = write_segy(tmp_path / "a.sgy", ramp()).read_bytes()
    path = tmp_path / "b.sgy"
    path.write_bytes(damage(content))
    with pytest.raises(OutcropError, match=line) as caught:
        open_volume(path)
    assert "\n" not in str(caught.value)
    assert "; " in str(caught.value)


def _with_words(path: Path, words: dict[int, tuple[str, Callable[[int, int], int]]]) -> None:
    """Write words into the trace headers: for each byte its type, and the number of each line."""
    content = bytearray(path.read_bytes())
    stride = (len(content) - 3600) // 20
    for number, (i, j) in enumerate(PLACES):
        for byte, (kind, value) in words.items():
            at = 3600 + number * stride + byte - 1
            raw = np.array([value(i, j)], kind).tobytes()
            content[at : at + len(raw)] = raw
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("endian", ["big", "little"])
@pytest.mark.parametrize("bytes_", [(221, 225), (233, 237), (3, 7), (181, 185), (215, 217)])
def test_line_numbers_at_any_byte(tmp_path, bytes_, endian):
    path = write_segy(tmp_path / "a.sgy", ramp(), endian=endian, at=(9, 21))
    kind = (">" if endian == "big" else "<") + ("i2" if bytes_ == (215, 217) else "i4")
    lines = (kind, lambda i, j: INLINES[i]), (kind, lambda i, j: CROSSLINES[j])
    _with_words(path, dict(zip(bytes_, lines, strict=True)))
    volume = open_volume(path, *bytes_)
    assert list(volume.coordinates[0]) == list(INLINES)
    assert list(volume.coordinates[1]) == list(CROSSLINES)
    assert np.array_equal(whole(path, inline_byte=bytes_[0], crossline_byte=bytes_[1]), ramp())


def test_header_words_have_the_width_of_segyio(tmp_path):
    path = write_segy(tmp_path / "a.sgy", ramp(shape=(1, 1, 6)))
    fields = [int(field) for field in segyio.TraceField.enums()]
    for wide in (12345, 70000):
        held = []
        with segyio.open(path, "r+", ignore_geometry=True) as file:
            for byte in fields:
                try:
                    file.header[0] = {byte: wide}
                except (OverflowError, ValueError):
                    continue
            held = [file.header[0][byte] for byte in fields]
        read = [read_trace_word(read_layout(path), field, "any") for field in fields]
        assert [int(word[0]) for word in read] == held


def write_revision_2(
    path: Path, cube: np.ndarray, extra: int, minor: int = 0, wide: bool = True, **options
) -> Path:
    """Add trace headers to each trace, and say so as revision 2.0 (four bytes) or 2.1 does."""
    write_segy(path, cube, **options)
    content = path.read_bytes()
    order = "<" if options.get("endian") == "little" else ">"
    count = int(np.prod(cube.shape[:2]))
    traces = np.frombuffer(content[3600:], "u1").reshape(count, -1)
    filler = np.full((count, 240 * extra), 0x5A, "u1")
    body = np.concatenate([traces[:, :240], filler, traces[:, 240:]], axis=1)
    headers = bytearray(content[:3600])
    headers[3296:3300] = np.array([0x01020304], order + "u4").tobytes()
    headers[3500:3502] = bytes([2, minor])
    headers[3502:3504] = np.array([1], order + "i2").tobytes()
    number = np.array([extra], order + ("i4" if wide else "i2")).tobytes()
    headers[3506 : 3506 + len(number)] = number
    path.write_bytes(bytes(headers) + body.tobytes())
    return path


@pytest.mark.parametrize("endian", ["big", "little"])
@pytest.mark.parametrize(("minor", "wide"), [(0, True), (0, False), (1, False)])
@pytest.mark.parametrize("extra", [0, 1, 3])
def test_additional_trace_headers_of_revision_2(tmp_path, extra, minor, wide, endian):
    path = write_revision_2(tmp_path / "a.sgy", ramp(), extra, minor, wide, endian=endian)
    assert np.array_equal(whole(path), ramp())
    assert list(open_volume(path).coordinates[0]) == list(INLINES)
    # A truncated trace still raises an error.
    path.write_bytes(path.read_bytes()[:-240])
    with pytest.raises(OutcropError, match="are not a multiple of traces"):
        open_volume(path)


def test_other_fields_of_revision_2(tmp_path):
    path = write_revision_2(tmp_path / "a.sgy", ramp(), 1)
    content = bytearray(path.read_bytes())
    content[3504:3506] = (-1).to_bytes(2, "big", signed=True)
    content[3520:3528] = (3600 + 6400).to_bytes(8, "big")
    content[3512:3520] = (20).to_bytes(8, "big")
    content[3528:3532] = (2).to_bytes(4, "big")
    content[3216:3218] = bytes(2)
    content[3272:3280] = np.array([2500.0], ">f8").tobytes()
    path.write_bytes(bytes(content[:3600]) + bytes(6400) + bytes(content[3600:]) + bytes(6400))
    assert np.array_equal(whole(path), ramp())
    assert list(open_volume(path).coordinates[2]) == [0, 2.5, 5, 7.5, 10, 12.5]
    content[3296:3300] = b"\2\1\4\3"
    path.write_bytes(bytes(content))
    with pytest.raises(OutcropError, match="has pairwise swapped bytes"):
        open_volume(path)


def test_traces_with_different_delays_print_a_note(tmp_path, capsys):
    path = write_segy(tmp_path / "a.sgy", ramp())
    _with_words(path, {109: (">i2", lambda i, j: 100)})
    assert list(open_volume(path).coordinates[2]) == [100, 104, 108, 112, 116, 120]
    assert capsys.readouterr().err == ""
    _with_words(path, {109: (">i2", lambda i, j: 100 + 8 * (i == 3))})
    open_volume(path)
    assert "traces start at 100 to 108 ms" in capsys.readouterr().err


def test_fewer_traces_than_declared_raise_an_error(tmp_path):
    path = write_revision_2(tmp_path / "a.sgy", ramp(), 1)
    content = bytearray(path.read_bytes())
    content[3512:3520] = (24).to_bytes(8, "big")
    path.write_bytes(bytes(content))
    with pytest.raises(OutcropError, match="is truncated: it has 20 of 24 traces; fetch"):
        open_volume(path)


def test_a_binary_header_filled_with_spaces_is_read(tmp_path, capsys):
    path = write_segy(tmp_path / "a.sgy", ramp())
    content = bytearray(path.read_bytes())
    content[3260:3600] = b"\x40" * 340  # in EBCDIC
    path.write_bytes(bytes(content))
    assert np.array_equal(whole(path), ramp())
    assert "the file is too short for them; it is read without them" in capsys.readouterr().err
