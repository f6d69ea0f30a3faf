from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import cross_val_score

from outcrop.errors import OutcropError
from outcrop.synthetic.cube import CLASSES, Earth, Survey, make_cube, random_patches
from outcrop.synthetic.cube.bodies import Fault, displace
from outcrop.synthetic.cube.earth import CHAOTIC, FAULTED, PARALLEL, SALT, Strata
from outcrop.synthetic.cube.survey import (
    DEEP,
    REACH,
    SHALLOW,
    noise_power,
    record,
    reflectivity,
    ricker,
    wavelets,
)
from outcrop.synthetic.draws import Draws, Grid
from tests.command_line import run

SHAPE = (64, 96, 128)


@pytest.fixture(scope="module")
def earth():
    return Earth.draw(SHAPE, seed=3)


@pytest.fixture(scope="module")
def clean(earth):
    """Amplitudes without noise, and classes."""
    return Survey(earth, noise_db=None).slab(range(SHAPE[0]))


def unlike_neighbours(amplitudes, apart=3):
    """1 - the local correlation with the trace `apart` crosslines away, over 9 samples."""
    a, b = amplitudes[:, apart:], amplitudes[:, :-apart]

    def local(values):
        return sliding_window_view(values, 9, axis=2).sum(axis=-1)

    return 1 - local(a * b) / np.sqrt(local(a * a) * local(b * b) + 1e-12)


def cut(volume, places, axis, size):
    windows = sliding_window_view(np.moveaxis(volume, axis, 0), (size, size), axis=(1, 2))
    return windows[places.index, places.row, places.column]


def test_a_seed_gives_the_same_bytes(tmp_path):
    one, same, other = (
        make_cube(tmp_path / name, (32, 48, 64), seed)
        for name, seed in (("one", 1), ("same", 1), ("other", 2))
    )
    assert one.volume.read_bytes() == same.volume.read_bytes()
    assert one.classes.read_bytes() == same.classes.read_bytes()
    assert (np.load(one.classes) != np.load(other.classes)).mean() > 0.1
    assert not np.allclose(np.load(one.volume), np.load(other.volume))


def test_files_have_their_contents(tmp_path):
    made = make_cube(tmp_path / "cube", (32, 50, 70), seed=4, noise_db=20)
    volume = np.load(made.volume, mmap_mode="r", allow_pickle=False)
    classes = np.load(made.classes, mmap_mode="r", allow_pickle=False)
    assert volume.shape == classes.shape == (32, 50, 70)
    assert (volume.dtype, classes.dtype) == (np.float32, np.uint8)
    assert np.isfinite(volume).all()
    assert set(np.unique(classes)) == {0, 1, 2, 3, 4}
    assert json.loads(made.names.read_text()) == list(CLASSES)
    seen, known = Survey(Earth.draw((32, 50, 70), 4), 20).slab(range(32))
    np.testing.assert_allclose(volume, seen, atol=1e-4)
    np.testing.assert_array_equal(classes, known)


def test_an_inline_does_not_depend_on_its_slab(earth):
    survey = Survey(earth, noise_db=10)
    (whole, classes), (alone, known) = survey.slab(range(20, 30)), survey.slab(range(24, 25))
    np.testing.assert_allclose(whole[4], alone[0], atol=1e-4)
    np.testing.assert_array_equal(classes[4], known[0])


@pytest.mark.parametrize("seed", range(12))
def test_each_class_has_a_twentieth_and_most_voxels_have_a_class(seed):
    _, classes = Survey(Earth.draw(SHAPE, seed), None).slab(range(SHAPE[0]))
    shares = np.bincount(classes.ravel(), minlength=5) / classes.size
    assert (shares[1:] >= 0.05).all(), dict(zip(CLASSES, shares[1:], strict=True))
    assert shares[0] < 0.2


@pytest.mark.parametrize("noise_db", [0.0, 12.0])
def test_signal_and_noise_have_the_requested_power(earth, clean, noise_db):
    noisy, classes = Survey(earth, noise_db).slab(range(SHAPE[0]))
    noise = noisy - clean[0]
    np.testing.assert_array_equal(classes, clean[1])
    assert clean[0].std() == pytest.approx(1, abs=0.05)
    assert 10 * np.log10(clean[0].var() / noise.var()) == pytest.approx(noise_db, abs=0.5)
    # Inlines must have independent noise.
    assert abs(np.corrcoef(noise[10].ravel(), noise[20].ravel())[0, 1]) < 0.05


def test_infinite_decibels_give_no_noise(earth, clean):
    silent, _ = Survey(earth, float("inf")).slab(range(3))
    np.testing.assert_allclose(silent, clean[0][:3], atol=1e-5)


def test_ricker_wavelet_has_its_peak_and_its_zeros():
    time = np.arange(-200, 201)
    spectrum = np.abs(np.fft.rfft(ricker(time, 0.08), 4096))
    assert np.argmax(spectrum) / 4096 == pytest.approx(0.08, abs=1e-3)
    assert spectrum[0] < 1e-6 * spectrum.max()
    assert ricker(np.array(1 / (np.sqrt(2) * np.pi * 0.08)), 0.08) == pytest.approx(0)


def test_a_spike_becomes_the_wavelet_of_its_depth():
    coefficients = np.zeros((3, 3, 400 + 2 * REACH - 1), dtype=np.float32)
    coefficients[1, 1, 250 + REACH] = 1  # between samples 250 and 251
    trace = record(coefficients, wavelets(400))[0, 0]
    peak = SHALLOW + (250.5 / 400) * (DEEP - SHALLOW)
    near = np.arange(250 - REACH + 1, 250 + REACH)
    expected = 0.25 * ricker(near - 250.5, peak)  # the spread halves it along each of two axes
    np.testing.assert_allclose(trace[near], expected, atol=1e-6)
    assert np.abs(trace[: 250 - REACH]).max() == 0


def test_the_power_of_recorded_noise_is_as_computed():
    matrix = wavelets(300)
    coefficients = np.random.default_rng(0).standard_normal((40, 40, len(matrix)), np.float32)
    power = np.mean(record(coefficients, matrix) ** 2)
    assert power == pytest.approx(noise_power(matrix), rel=0.05)


def test_frequency_decreases_with_depth_as_that_of_the_wavelets():
    shape = (32, 48, 512)
    traces, _ = Survey(Earth.draw(shape, 0), None).slab(range(0, 32))

    def middle_frequency(part):
        power = (np.abs(np.fft.rfft(part * np.hanning(part.shape[-1]))) ** 2).mean(axis=(0, 1))
        return np.average(np.fft.rfftfreq(part.shape[-1]), weights=power)

    shallow, deep = middle_frequency(traces[..., :128]), middle_frequency(traces[..., -128:])
    assert shallow > 1.1 * deep
    assert shallow == pytest.approx(SHALLOW, rel=0.25)
    assert deep == pytest.approx(DEEP, rel=0.25)


def test_reflection_coefficients_are_those_of_small_contrasts():
    impedance = np.array([1.0, 1.0, 1.1, 1.05])
    exact = np.diff(impedance) / (impedance[1:] + impedance[:-1])
    np.testing.assert_allclose(reflectivity(np.log(impedance)), exact, atol=1e-3)


def test_layers_are_thin_and_thick():
    strata = Strata.draw(Draws(0), 0.0, 2000.0)
    level = strata.impedance(np.arange(0, 2000, 0.125, dtype=np.float32), np.float32(0))
    steps = np.flatnonzero(np.abs(np.diff(level)) > 1e-6)
    thickness = np.diff(steps[np.diff(steps, prepend=-99) > 1]) / 8
    assert np.percentile(thickness, 10) < 4
    assert np.percentile(thickness, 90) > 10
    assert level.std() == pytest.approx(0.07, rel=0.4)


FAULT = Fault(
    inline=0, crossline=0, sample=100, strike=np.pi / 2, lean=-0.5, bend=0, length=50, height=80,
    reach=40, zone=20, throw=12,
)  # fmt: skip


def displaced(fault, inline):
    grid = Grid.of(range(inline, inline + 1), range(-100, 101), range(200))
    depth = np.broadcast_to(grid.sample, grid.shape).copy()
    broken = displace(depth, fault, grid)
    return (depth - grid.sample)[0], broken[0]


def test_a_fault_displaces_the_hanging_wall_downwards():
    shift, broken = displaced(FAULT, inline=0)
    row = shift[:, 100]
    # The plane dips to higher crosslines, so the hanging wall is there. It moved down: its samples
    # have rock of smaller stratigraphic depth.
    assert row[101] < 0 < row[99]
    assert row[99] - row[101] == pytest.approx(FAULT.throw, rel=0.1)
    assert shift[119, 140] - shift[121, 140] == pytest.approx(0.75 * FAULT.throw, rel=0.1)
    assert broken[100, 100] == 1
    np.testing.assert_array_equal(shift[[50, 150], 100], 0)
    assert broken[[50, 150], 100].max() == 0


def test_a_fault_ends_at_its_tip_line():
    assert not displaced(FAULT, inline=50)[0].any()
    shift, _ = displaced(FAULT, inline=0)
    assert not shift[:, :20].any()
    near, far = (np.abs(displaced(FAULT, k)[0]).max() for k in (10, 40))
    assert near > 2 * far > 0


def test_a_window_contains_all_displacement_of_a_fault():
    grid = Grid.of(range(-5, 5), range(-100, 101), range(200))
    fault = replace(FAULT, strike=1.1, bend=8.0)
    whole = np.zeros(grid.shape, dtype=np.float32)
    hurt = displace(whole, fault, grid)
    crosslines, samples = fault.window(grid)
    whole[:, crosslines, samples] = hurt[:, crosslines, samples] = 0
    assert not whole.any()
    assert not hurt.any()


def test_salt_has_its_class(earth, clean):
    amplitudes, classes = clean
    salt = earth.salt
    i, x = round(salt.inline), round(salt.crossline)
    top = int(np.argmax(classes[i, x] == SALT))
    assert top == pytest.approx(salt.top, abs=5)
    assert (classes[i, x, top:] == SALT).all()
    far = np.hypot(
        (np.arange(SHAPE[0]) - salt.inline)[:, None] / salt.radii[0],
        (np.arange(SHAPE[1]) - salt.crossline) / salt.radii[1],
    )
    assert not (classes[far > 2] == SALT).any()
    # A strong reflection at the top and weak ones inside.
    bright = np.abs(amplitudes[i, x, top - 6 : top + 6]).max()
    assert bright > 4 * amplitudes[classes == SALT].std()
    assert amplitudes[classes == SALT].std() < 0.8 * amplitudes[classes == PARALLEL].std()


def test_layers_are_upturned_beside_the_salt(earth):
    """Uplift is 0 far from the dome and largest at its flank, with a syncline between."""
    away = earth.salt.uplift(np.array([1.0, 1.5, 2.2, 5.0], dtype=np.float32))
    assert away[0] == pytest.approx(earth.salt.lift, rel=0.05)
    assert away[0] > away[1] > 0 > away[2]
    assert abs(away[3]) < 0.01 * earth.salt.lift


def test_horizons_are_continuous_in_their_class(clean):
    amplitudes, classes = clean
    unlike = unlike_neighbours(amplitudes)
    middle = classes[:, 1:-2, 4:-4]
    median = {k: np.median(unlike[middle == k]) for k in (PARALLEL, CHAOTIC, FAULTED, SALT)}
    assert median[PARALLEL] < 0.6 * min(median[CHAOTIC], median[SALT])
    assert median[PARALLEL] < median[FAULTED]


def test_fields_have_unit_variance_and_fit_together():
    grid = Grid.of(range(60), range(70), range(80))
    whole = grid.field(Draws(7), "a", (4, 5, 6))
    part = Grid.of(range(20, 30), range(70), range(5, 90)).field(Draws(7), "a", (4, 5, 6))
    np.testing.assert_allclose(whole[20:30, :, 5:], part[..., :75], atol=1e-5)
    assert abs(whole.mean()) < 0.05
    assert whole.std() == pytest.approx(1, abs=0.05)
    assert abs(np.corrcoef(whole.ravel(), grid.field(Draws(7), "b", (4, 5, 6)).ravel())[0, 1]) < 0.1


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_patches_lie_in_their_slice_and_show_their_class(clean, axis):
    _, classes = clean
    places = random_patches(classes, axis, size=12, per_class=30, seed=1)
    assert np.bincount(places.label).tolist() == [30] * 4
    patches = cut(classes, places, axis, 12)
    values = places.label + 1
    np.testing.assert_array_equal(patches[:, 6, 6], values)
    assert ((patches == values[:, None, None]).mean(axis=(1, 2)) >= 0.6).all()
    corners = np.stack([places.index, places.row, places.column])
    assert len(np.unique(corners, axis=1).T) == 120
    for k in range(120):
        plane = np.take(classes, places.index[k], axis)
        r, c = places.row[k], places.column[k]
        np.testing.assert_array_equal(plane[r : r + 12, c : c + 12], patches[k])


def test_places_depend_on_the_seed_alone_also_for_memory_mapped_cubes(clean, tmp_path):
    _, classes = clean
    np.save(tmp_path / "classes.npy", classes)
    mapped = np.load(tmp_path / "classes.npy", mmap_mode="r")
    one, same, other = (
        random_patches(given, 0, 10, 20, seed)
        for given, seed in ((classes, 1), (mapped, 1), (classes, 2))
    )
    np.testing.assert_array_equal(one.row, same.row)
    np.testing.assert_array_equal(one.index, same.index)
    assert (one.row != other.row).any()


def test_texture_but_not_amplitude_separates_the_classes(earth):
    amplitudes, classes = Survey(earth, 15.0).slab(range(SHAPE[0]))
    size = 16
    places = random_patches(classes, 0, size, 120, seed=0)
    patches = cut(amplitudes, places, 0, size)
    flat = patches.reshape(len(patches), -1)
    strength = np.column_stack([flat.mean(axis=1), flat.std(axis=1)])
    unlike = [unlike_neighbours(patches, apart).mean(axis=(1, 2)) for apart in (1, 2, 4)]
    steep = np.log((np.diff(patches, axis=1) ** 2).mean(axis=(1, 2)) / flat.var(axis=1))
    texture = np.column_stack([*unlike, steep, strength])
    forest = RandomForestClassifier(100, random_state=0)
    by_strength, by_texture = (
        cross_val_score(forest, features, places.label, cv=4).mean()
        for features in (strength, texture)
    )
    assert by_strength < 0.6
    assert by_texture > by_strength + 0.1


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ({"axis": 3}, "axis: 3 is not an axis"),
        ({"size": 65}, "does not fit slices of"),
        ({"size": 0}, "does not fit slices of"),
        ({"size": 60}, "class 'chaotic': has .* at only 0 of 5 places"),
        ({"per_class": 100_000}, "take fewer or smaller patches"),
    ],
)
def test_too_few_places_raise_an_error(clean, arguments, line):
    settings = {"axis": 2, "size": 12, "per_class": 5, "seed": 0} | arguments
    with pytest.raises(OutcropError, match=line) as error:
        random_patches(clean[1], **settings)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ({"shape": (64, 96)}, "give three"),
        ({"shape": (64, 96, 128, 4)}, "give three"),
        ({"shape": (64, 96, 63)}, "32,48,64 or more"),
        ({"shape": (-64, 96, 128)}, "32,48,64 or more"),
        ({"shape": (100_000, 100_000, 10_000)}, "are free; make a smaller one"),
        ({"seed": -1}, "negative"),
        ({"noise_db": float("nan")}, "nan leaves no signal"),
        ({"noise_db": -1e9}, "take -100 or more"),
    ],
)
def test_wrong_arguments_give_one_line_and_no_folder(tmp_path, arguments, line):
    with pytest.raises(OutcropError, match=line) as error:
        make_cube(tmp_path / "new", **({"shape": SHAPE} | arguments))
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_and_a_missing_parent_raise_an_error(tmp_path):
    with pytest.raises(OutcropError, match="exists already"):
        make_cube(tmp_path, SHAPE)
    with pytest.raises(OutcropError, match="does not exist; make it first"):
        make_cube(tmp_path / "no" / "cube", SHAPE)


def test_the_command_line_makes_a_cube(tmp_path, capsys):
    assert run(f"synthetic cube -o {tmp_path}/cube --shape 32,48,64 --seed 1 --noise-db 10") == 0
    written = capsys.readouterr().out.split()
    assert written == [
        f"{tmp_path}/cube/{name}" for name in ("cube.npy", "classes.npy", "classes.json")
    ]
    made = make_cube(tmp_path / "same", (32, 48, 64), 1, 10)
    assert made.volume.read_bytes() == (tmp_path / "cube" / "cube.npy").read_bytes()


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ("--shape 32,48", "shape: 32,48 is not"),
        ("--shape 32,x,64", "--shape: expected whole numbers with commas between"),
        ("--shape 32,48,-64", "take 32,48,64 or more"),
        ("--noise-db .nan", "--noise-db: expected a number"),
        ("--noise-db nan", "--noise-db: expected a number"),
    ],
)
def test_the_command_line_gives_one_line_for_wrong_options(tmp_path, capsys, options, line):
    assert run(f"synthetic cube -o {tmp_path}/cube {options}") == 2
    told = capsys.readouterr().err
    assert line in told
    assert told.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
