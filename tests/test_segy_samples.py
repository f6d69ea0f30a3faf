"""Samples that contradict the header of a SEG-Y file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outcrop.errors import OutcropError
from outcrop.sources.volumes import open_volume
from outcrop.sources.volumes.segy import likely_format
from tests.cubes import write_segy
from tests.shared import DATA, needs_shared

SHAPE = (8, 10, 200)
CODES = {"ibm": 1, "int32": 2, "int16": 3, "ieee": 5, "float64": 6}


def cube(kind: str, seed: int = 0, shape=SHAPE) -> np.ndarray:
    """Typical amplitudes: float, layered, velocities, 8 or 16 bits, noise, muted."""
    random = np.random.default_rng(seed)
    noise = random.normal(size=shape)
    smooth = np.cumsum(noise, axis=2)
    smooth -= smooth.mean(axis=2, keepdims=True)
    if kind == "muted":
        smooth[:, :, : shape[2] // 2] = 0
    return {
        "noise": 1000 * noise,
        "layers": 1e4 * smooth,
        "muted": smooth,
        "tiny": 1e-9 * noise,
        "huge": 1e12 * noise,
        "velocity": 1500 + 3000 * np.abs(smooth) / np.abs(smooth).max(),
        "8 bits": np.round(40 * noise / noise.std()).clip(-128, 127),
        "16 bits": np.round(3000 * smooth / smooth.std()).clip(-32768, 32767),
        "positive": np.exp(noise),
        "classes": random.integers(0, 7, shape).astype(float),
    }[kind]


def _marked(path: Path, code: int) -> Path:
    """Change the sample format code and nothing else."""
    content = bytearray(path.read_bytes())
    order = "big" if content[3224] == 0 else "little"
    content[3224:3226] = code.to_bytes(2, order)
    path.write_bytes(bytes(content))
    return path


def _swapped(path: Path, width: int, samples: int) -> Path:
    """Swap the bytes of the samples and of no header."""
    content = path.read_bytes()
    traces = np.frombuffer(content[3600:], "u1").reshape(-1, 240 + samples * width).copy()
    body = traces[:, 240:].reshape(len(traces), samples, width)[:, :, ::-1]
    traces[:, 240:] = body.reshape(len(traces), -1)
    path.write_bytes(content[:3600] + traces.tobytes())
    return path


def _write(path: Path, samples: np.ndarray, form: str, endian: str = "big") -> Path:
    lines = {"inlines": range(SHAPE[0]), "crosslines": range(SHAPE[1])}
    return write_segy(path, samples, code=CODES[form], endian=endian, **lines)


def _whole(path, **options):
    volume = open_volume(path, **options)
    with volume.reader() as reader:
        return reader.slices(0, 0, volume.shape[0])


FLOATS = ["noise", "layers", "muted", "tiny", "huge", "velocity", "8 bits", "16 bits", "positive",
    "classes"]  # fmt: skip


@pytest.mark.parametrize("kind", FLOATS)
@pytest.mark.parametrize("form", ["ibm", "ieee", "float64"])
@pytest.mark.parametrize("endian", ["big", "little"])
def test_a_correct_header_is_accepted(tmp_path, kind, form, endian):
    path = _write(tmp_path / "a.sgy", cube(kind), form, endian)
    read = _whole(path)
    assert np.allclose(read, cube(kind).astype("f4"), rtol=1e-5, atol=0)


@pytest.mark.parametrize("kind", ["8 bits", "16 bits", "classes"])
@pytest.mark.parametrize("form", ["int16", "int32"])
def test_correct_integers_are_accepted(tmp_path, kind, form):
    for endian in ("big", "little"):
        path = _write(tmp_path / "a.sgy", cube(kind), form, endian)
        assert np.array_equal(_whole(path), cube(kind))


@pytest.mark.parametrize("kind", [k for k in FLOATS if k != "classes"])
@pytest.mark.parametrize(("form", "said"), [("ieee", "ibm"), ("ibm", "ieee")])
@pytest.mark.parametrize("endian", ["big", "little"])
def test_the_other_kind_of_float_raises_an_error_and_can_be_read(
    tmp_path, kind, form, said, endian
):
    if (form, kind) in (("ibm", "8 bits"), ("ibm", "velocity")):
        pytest.skip("too few values on both sides of a power of 16 to be sure")
    path = _marked(_write(tmp_path / "a.sgy", cube(kind), form, endian), CODES[said])
    with pytest.raises(
        OutcropError, match=f"its samples look like .*; pass `format='{form}'`, or"
    ) as caught:
        open_volume(path)
    assert "\n" not in str(caught.value)
    assert np.allclose(_whole(path, format=form), cube(kind).astype("f4"), rtol=1e-5, atol=0)
    # With the declared format given explicitly, the samples are read as declared.
    insisting = _whole(path, format=said, endian=endian)
    assert not np.allclose(insisting, cube(kind), rtol=1e-2, atol=0)


@pytest.mark.parametrize("kind", [k for k in FLOATS if k != "classes"])
@pytest.mark.parametrize("form", ["ibm", "ieee", "float64"])
def test_floats_in_the_other_byte_order_raise_an_error(tmp_path, kind, form):
    width = 8 if form == "float64" else 4
    for endian, other in (("big", "little"), ("little", "big")):
        path = _swapped(_write(tmp_path / "a.sgy", cube(kind), form, endian), width, SHAPE[2])
        with pytest.raises(
            OutcropError, match=f"pass `endian='{other}'`, or `format='{form}'` `end"
        ):
            open_volume(path)
        assert np.allclose(_whole(path, endian=other), cube(kind).astype("f4"), rtol=1e-5, atol=0)


@pytest.mark.parametrize("kind", ["8 bits", "16 bits"])
@pytest.mark.parametrize("form", ["int16", "int32"])
def test_integers_in_the_other_byte_order_raise_an_error(tmp_path, kind, form):
    width = int(form[3:]) // 8
    path = _swapped(_write(tmp_path / "a.sgy", cube(kind), form), width, SHAPE[2])
    with pytest.raises(OutcropError, match="pass `endian='little'`"):
        open_volume(path)
    assert np.array_equal(_whole(path, endian="little"), cube(kind))


@pytest.mark.parametrize("kind", ["noise", "layers", "16 bits"])
@pytest.mark.parametrize(("form", "said"), [("ieee", "int32"), ("int32", "ieee"), ("int32", "ibm")])
def test_integers_and_floats_are_distinguished(tmp_path, kind, form, said):
    samples = np.round(cube(kind))
    path = _marked(_write(tmp_path / "a.sgy", samples, form), CODES[said])
    with pytest.raises(OutcropError, match=f"pass `format='{form}'`"):
        open_volume(path)
    assert np.allclose(_whole(path, format=form), samples, rtol=1e-5)


@given(
    seed=st.integers(0, 1 << 32),
    kind=st.sampled_from(FLOATS),
    scale=st.floats(1e-6, 1e6),
    offset=st.floats(-1e6, 1e6),
    form=st.sampled_from(["ibm", "ieee"]),
    endian=st.sampled_from(["big", "little"]),
)
@settings(max_examples=150, deadline=None)
def test_any_correct_header_is_accepted(seed, kind, scale, offset, form, endian):
    samples = (cube(kind, seed, (6, 6, 300)) * scale + offset).reshape(-1, 300).astype("f4")
    raw = _bytes(samples, form, endian)
    assert likely_format(raw, form, endian) == (form, endian)


@given(
    seed=st.integers(0, 1 << 32),
    kind=st.sampled_from(FLOATS),
    peak=st.floats(1, 2**31 - 1),
    form=st.sampled_from(["int16", "uint16", "int32", "uint32", "int8"]),
    endian=st.sampled_from(["big", "little"]),
)
@settings(max_examples=150, deadline=None)
def test_any_correct_integers_are_accepted(seed, kind, peak, form, endian):
    limits = np.iinfo(form)
    samples = cube(kind, seed, (6, 6, 300)).reshape(-1, 300)
    samples *= min(peak, limits.max) / np.abs(samples).max()
    stored = np.round(samples).clip(limits.min, limits.max).astype(form)
    stored = stored.astype(stored.dtype.newbyteorder(">" if endian == "big" else "<"))
    raw = np.ascontiguousarray(stored).view("u1").reshape(len(samples), -1)
    assert likely_format(raw, form, endian) == (form, endian)


def _bytes(samples: np.ndarray, form: str, endian: str) -> np.ndarray:
    if form == "ieee":
        stored = samples.astype(">f4" if endian == "big" else "<f4")
    else:
        stored = _ibm(samples).astype(">u4" if endian == "big" else "<u4")
    return np.ascontiguousarray(stored).view("u1").reshape(len(samples), -1)


def _ibm(values: np.ndarray) -> np.ndarray:
    """IBM floats of float32, truncated: sign, exponent of 16 plus 64, fraction of 24 bits."""
    wide = np.abs(values.astype("f8"))
    exponent = np.zeros(wide.shape, int)
    held = wide > 0
    exponent[held] = np.floor(np.log2(wide[held]) / 4).astype(int) + 1
    fraction = np.floor(wide / 16.0**exponent * (1 << 24)).astype("u4")
    over = fraction >= 1 << 24
    exponent[over] += 1
    fraction[over] >>= 4
    under = held & (fraction < 1 << 20)
    exponent[under] -= 1
    fraction[under] <<= 4
    sign = (values < 0).astype("u4") << 31
    return np.where(held, sign | (exponent + 64).astype("u4") << 24 | fraction, 0)


@needs_shared
@pytest.mark.parametrize("name", ["f3", "small", "small-lsb"])
def test_real_files_are_accepted(name):
    open_volume(DATA / "segy" / f"{name}.sgy")


def test_an_invalid_code_can_be_overridden(tmp_path):
    for endian in ("big", "little"):
        path = _marked(_write(tmp_path / "a.sgy", cube("layers"), "ieee", endian), 0)
        with pytest.raises(OutcropError, match=r"code 0\); .* pass `format` if the code is wrong"):
            open_volume(path)
        read = _whole(path, format="ieee", endian=endian)
        assert np.array_equal(read, cube("layers").astype("f4"))


def test_a_format_of_another_width_is_read(tmp_path):
    path = _marked(_write(tmp_path / "a.sgy", cube("16 bits"), "int16"), 5)
    with pytest.raises(
        OutcropError, match=r"are not a multiple of traces .* or pass `format=int16`"
    ):
        open_volume(path)
    assert np.array_equal(_whole(path, format="int16"), cube("16 bits"))


def test_ibm_floats_are_read_without_a_previous_segyio_open(tmp_path):
    path = _write(tmp_path / "a.sgy", cube("layers"), "ibm")
    command = "import sys, outcrop; v = outcrop.open_volume(sys.argv[1])\n"
    command += "with v.reader() as r: print(r.slices(0, 0, 1)[0, 0, 0])"
    done = subprocess.run(
        [sys.executable, "-c", command, str(path)], capture_output=True, text=True
    )
    assert done.stderr == ""
    assert float(done.stdout) == pytest.approx(cube("layers")[0, 0, 0], rel=1e-5)
