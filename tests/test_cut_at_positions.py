"""Cut patches of volumes and scenes at the positions in a table."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st

from outcrop.errors import OutcropError
from outcrop.patches.at_positions import cut_at_positions
from outcrop.patches.cut import cut
from outcrop.patches.cut_volume import cut_volume
from outcrop.patches.patchset import PatchSet
from outcrop.patches.positions import Positions, upper_left
from tests.command_line import run
from tests.rasters import ramp, write_raster
from tests.test_cut import polygons
from tests.test_cut_volume import SHAPE, check_pixels, samples

SIZE = 5


def rows(n: int, seed: int = 0, shape=SHAPE, axes=(0, 1, 2), size: int = SIZE) -> pd.DataFrame:
    """A table as written by `outcrop locate`, of random positions without repetition."""
    rng = np.random.default_rng(seed)
    places: dict[tuple[int, ...], None] = {}
    while len(places) < n:
        axis = int(rng.choice(axes))
        height, width = (length for k, length in enumerate(shape) if k != axis)
        index = rng.integers(shape[axis])
        place = (axis, index, rng.integers(height - size + 1), rng.integers(width - size + 1))
        places[place] = None
    axis, index, row, column = np.array(list(places)).T
    return pd.DataFrame(
        {
            "patch": np.arange(n), "found": True, "source": "cube.npy", "axis": axis,
            "index": index, "row": row, "column": column, "flip": "none", "confidence": 1.0,
            "margin": 0.5, "gain": 2.0, "offset": -3.0,
            "label": np.array(["salt", "NA"])[np.arange(n) % 2],
        }
    )  # fmt: skip


@pytest.fixture
def world(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    np.save("cube.npy", samples())
    rows(40).to_csv("t.csv", index=False)
    return tmp_path


def check_table(patches: PatchSet, table: pd.DataFrame, size: int = SIZE) -> None:
    """The patches are those of the table, in its order."""
    at = patches.positions
    for name in ("axis", "index"):
        assert np.array_equal(getattr(at, name), table[name])
    assert np.array_equal(upper_left(at.row, size), table["row"])
    assert np.array_equal(upper_left(at.column, size), table["column"])
    assert [patches.classes[label] for label in patches.labels] == table["label"].tolist()


@given(seed=st.integers(0, 999), n=st.integers(4, 60), size=st.sampled_from([1, 4, 5]))
@settings(max_examples=20, deadline=None)
def test_the_patches_are_those_of_the_table_in_its_order(tmp_path_factory, seed, n, size):
    folder = tmp_path_factory.mktemp("table")
    np.save(folder / "cube.npy", samples())
    table = rows(n, seed, size=size)
    table.to_csv(folder / "t.csv", index=False)
    memory = cut_at_positions(folder / "cube.npy", folder / "t.csv", size=size)
    check_table(memory, table, size)
    check_pixels(memory, [samples()], size)
    disk = cut_at_positions(
        folder / "cube.npy", folder / "t.csv", size=size, output=folder / "p.zarr"
    )
    assert disk.fingerprint == memory.fingerprint
    assert np.array_equal(disk.take(np.arange(n)), memory.images)


def test_images_out_of_order_are_stored_in_order(world, monkeypatch):
    monkeypatch.setattr("outcrop.patches.patchset._CHUNK_BYTES", 700)
    table = rows(40).sample(frac=1, random_state=1)
    table.to_csv("t.csv", index=False)
    disk = cut_at_positions("cube.npy", "t.csv", size=SIZE, output="p.zarr")
    assert disk.images.chunks[0] == 7
    check_table(disk, table)
    check_pixels(disk, [samples()], SIZE)
    assert sorted(path.name for path in Path("p.zarr").iterdir()) == [
        "columns", "images", "labels", "positions", "zarr.json"
    ]  # fmt: skip


def test_parquet_is_read(world):
    rows(40).to_parquet("t.parquet")
    csv, parquet = (cut_at_positions("cube.npy", f"t.{end}", size=5) for end in ("csv", "parquet"))
    assert csv.fingerprint == parquet.fingerprint
    assert csv.classes == parquet.classes == ("NA", "salt")


def test_integers_in_a_table_have_no_decimals(world):
    table = rows(40).assign(label=np.arange(40) % 2 + 1.0, year=2019.0)
    table.to_parquet("t.parquet")
    patches = cut_at_positions("cube.npy", "t.parquet", size=5, keep=["year"])
    assert patches.classes == ("1", "2")
    assert patches.columns["year"].names == ("2019",)


def test_rows_that_were_not_found_are_left_out_and_counted(world):
    table = rows(40).astype({"index": object, "row": object, "column": object})
    table.loc[table.index % 4 == 1, "found"] = False
    table.loc[table.index % 4 == 1, ["axis", "index", "row", "column", "label"]] = None
    table.to_csv("t.csv", index=False)
    assert ",,,," in Path("t.csv").read_text()
    patches = cut_at_positions("cube.npy", "t.csv", size=SIZE)
    assert len(patches) == 30
    assert patches.dropped == {"not found": 10}
    check_pixels(patches, [samples()], SIZE)


def test_only_position_and_class_are_required(world):
    table = rows(40, axes=(1,))
    table["facies"] = table["label"]
    table[["index", "row", "column", "facies"]].to_csv("few.csv", index=False)
    patches = cut_at_positions("cube.npy", "few.csv", "facies", SIZE, axis=1)
    check_table(patches, table)


def test_a_table_written_by_a_spreadsheet_is_read(world):
    table = rows(40)
    table.to_csv("t.csv", index=False)
    plain = cut_at_positions("cube.npy", "t.csv", size=SIZE)
    text = Path("t.csv").read_text().replace(",", ", ").replace("\n", "\r\n")
    Path("t.csv").write_bytes(b"\xef\xbb\xbf" + text.replace("TRUE", "True").encode() + b"\r\n\r\n")
    assert cut_at_positions("cube.npy", "t.csv", size=SIZE).fingerprint == plain.fingerprint


def test_a_random_sample_and_additional_columns(world):
    table = rows(40)
    table["well"] = np.array(["A-1", "B-2"])[np.arange(40) // 20]
    table.to_csv("t.csv", index=False)
    patches = cut_at_positions("cube.npy", "t.csv", size=SIZE, keep=["well"], per_class=6, seed=3)
    again = cut_at_positions("cube.npy", "t.csv", size=SIZE, per_class=6, seed=3)
    assert patches.counts.tolist() == [6, 6]
    assert replace(patches, columns={}).fingerprint == again.fingerprint != patches.fingerprint
    well = patches.columns["well"]
    lines = table.set_index(["axis", "index", "row", "column"])["well"]
    at = patches.positions
    for i in range(len(patches)):
        place = (at.axis[i], at.index[i], at.row[i] - SIZE // 2, at.column[i] - SIZE // 2)
        assert lines[place] == well.names[well.codes[i]]


def test_sources_are_named_by_file_name_or_stem(world):
    Path("far").mkdir()
    np.save("far/other.npy", -samples())
    table = rows(40)
    names = np.array(["cube.npy", "elsewhere/cube.npy", "other", "other.npy", "far/other.npy"])
    table["source"] = names[np.arange(40) % 5]
    table.to_csv("t.csv", index=False)
    patches = cut_at_positions(["cube.npy", "far/other.npy"], "t.csv", size=SIZE)
    assert np.array_equal(patches.positions.source, np.arange(40) % 5 > 1)
    check_pixels(patches, [samples(), -samples()], SIZE)


def test_patches_without_a_value_at_the_centre_are_dropped(world):
    cube = samples()
    cube[:, :, 13] = np.nan
    np.save("cube.npy", cube)
    patches = cut_at_positions("cube.npy", "t.csv", size=SIZE)
    assert patches.dropped["no data"] == 40 - len(patches) > 0
    assert np.isfinite(patches.images[:, 0, 2, 2]).all()
    assert np.isnan(patches.images).any()


def test_positions_of_a_patch_set_cut_it_again(world):
    labels = np.zeros(SHAPE, "uint8")
    labels[:6], labels[6:] = 1, 2
    np.save("classes.npy", labels)
    patches = cut_volume("cube.npy", "classes.npy", 2, SIZE, per_class=20)
    table = table_of(patches, SIZE)
    table.to_csv("t.csv", index=False)
    again = cut_at_positions("cube.npy", "t.csv", size=SIZE)
    assert np.array_equal(again.images, patches.images)
    assert again.fingerprint == patches.fingerprint


def table_of(patches: PatchSet, size: int) -> pd.DataFrame:
    at: Positions = patches.positions
    return pd.DataFrame(
        {
            "source": [patches.sources[source].name for source in at.source],
            "axis": at.axis,
            "index": at.index,
            "row": at.row - size // 2,
            "column": at.column - size // 2,
            "label": np.array(patches.classes)[patches.labels],
        }
    )


@pytest.mark.parametrize("size", [4, 5])
def test_scenes_are_cut_by_a_table(world, size):
    far = Affine(10, 0, 700_000, 0, -10, 1_200_000)
    write_raster("a.tif", ramp())
    write_raster("b.tif", 5000 + ramp(), transform=far)
    labels = polygons("l.gpkg", [("water", 5, 5, 9, 9), ("forest", 20, 30, 22, 33)])
    east = polygons("m.gpkg", [("water", 9, 10_005, 12, 10_009), ("rice", 5, 10_020, 7, 10_022)])
    patches = cut(["a.tif", "b.tif"], [labels, east], "class", size, edge="drop")
    order = np.random.default_rng(0).permutation(len(patches))
    table_of(patches, size).iloc[order].to_csv("t.csv", index=False)
    again = cut_at_positions(["a.tif", "b.tif"], "t.csv", size=size)
    assert again.crs == patches.crs
    assert again.bands == patches.bands
    assert again.images.dtype == np.uint16
    assert again.classes == ("forest", "rice", "water")
    names = [np.array(one.classes)[one.labels] for one in (again, patches)]
    assert np.array_equal(names[0], names[1][order])
    assert np.array_equal(again.images, patches.images[order])
    for name in ("source", "axis", "row", "column", "x", "y", "z", "width", "height", "depth"):
        ours, theirs = getattr(again.positions, name), getattr(patches.positions, name)[order]
        assert np.array_equal(ours, theirs), name


def test_gaps_of_a_scene_are_nan(world):
    pixels = ramp()
    pixels[1, 12, 14] = 0
    write_raster("a.tif", pixels, nodata=0)
    table = pd.DataFrame(
        {"row": [10, 11, 20], "column": [12, 13, 20], "label": ["a", "b", "a"], "source": "a"}
    )
    table.to_csv("t.csv", index=False)
    patches = cut_at_positions("a.tif", "t.csv", size=5)
    assert patches.dropped == {"no data": 1}
    assert patches.images.dtype == np.float32
    assert np.isnan(patches.images).sum() == 1


def broken(change) -> None:
    """Write t.csv with a change made to the table."""
    table = rows(10).astype(object)
    made = change(table)
    (table if made is None else made).to_csv("t.csv", index=False)


def put(column, line, value):
    def change(table):
        table.loc[line - 2, column] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put("row", 5, 16), r"line 5 has a patch of 5 from row 16, .* the \d+ × \d+ of cube.npy"),
        (put("column", 6, -1), r"line 6 has a patch of 5 from row \d+, column -1, not inside"),
        (put("index", 7, 26), r"line 7 is of slice 26 across axis \d of cube.npy; use one of 0"),
        (put("index", 8, -1), r"line 8 is of slice -1"),
        (put("axis", 9, 3), r"line 9 is across axis 3, which a volume does not have; use 0, 1"),
        (put("axis", 9, -1), r"line 9 is across axis -1"),
        (put("row", 3, 1.5), r"line 3 has '1.5' as row; positions are whole numbers"),
        (put("row", 3, float("nan")), r"line 3 has '' as row"),
        (put("column", 3, "nan"), r"line 3 has 'nan' as column"),
        (put("index", 4, "inf"), r"line 4 has 'inf' as index"),
        (put("index", 4, 1e300), r"line 4 has '1e\+300' as index"),
        (put("row", 11, "ten"), r"line 11 has 'ten' as row"),
        (put("label", 2, None), r"line 2 has no label; fill it in"),
        (put("source", 10, "b.npy"), r"line 10 is from 'b.npy', which is not given; there are"),
        (put("source", 10, None), r"line 10 has no source"),
        (put("found", 4, "maybe"), r"line 4 has 'maybe' as found; it is true or false"),
        (lambda t: t.drop(columns="column"), r"has no column 'column'; it has patch, found"),
        (lambda t: t.drop(columns="label"), r"has no column 'label'; it has patch"),
        (lambda t: t.drop(columns="axis"), r"has no column 'axis'"),
        (lambda t: t.iloc[:0], r"contains no rows; write one row per patch"),
        (lambda t: t.assign(found=False), r"has no row with found = true"),
        (
            lambda t: pd.concat([t, t.iloc[3:4].assign(label="chalk")]),
            r"line 12 has the same position as line 5, but another class; keep one",
        ),
        (lambda t: t.assign(label="salt"), r"gives patches of 'salt' only"),
    ],
)
def test_the_first_faulty_line_is_named(world, change, message):
    broken(change)
    with pytest.raises(OutcropError, match="^t.csv: " + message):
        cut_at_positions("cube.npy", "t.csv", size=SIZE, output="p.zarr")
    assert sorted(path.name for path in world.iterdir()) == ["cube.npy", "t.csv"]


def test_a_repeated_position_is_cut_once(world):
    table = rows(10)
    pd.concat([table, table.iloc[3:5]]).to_csv("t.csv", index=False)
    cut = cut_at_positions("cube.npy", "t.csv", size=SIZE)
    assert len(cut) == 10
    assert cut.dropped == {"same place as another": 2}


def test_lines_are_counted_as_in_a_spreadsheet(world):
    table = rows(10).astype(object)
    table.loc[3, "found"] = False
    table.loc[5, "row"] = 99
    lines = table.to_csv(index=False).splitlines()
    Path("t.csv").write_text("\n".join([*lines[:3], "", *lines[3:]]))
    with pytest.raises(OutcropError, match="line 8 has a patch of 5 from row 99"):
        cut_at_positions("cube.npy", "t.csv", size=SIZE)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.csv", None, "no such file; check the name"),
        ("t.csv", b"", "is not a CSV table"),
        ("t.csv", b"row,column\n1,2,3\n", "is not a CSV table"),
        ("t.csv", b"row,column\n1,2\n3,4,5\n", "is not a CSV table"),
        ("t.csv", b"\x89PNG\r\n\x1a\n\x00\xff\xfe", "is not a CSV table"),
        ("t.csv", b"row;column;label\n1;2;a\n", "has no column 'label'; it has row;column;label"),
        ("t.parquet", b"row,column\n1,2\n", "is not a Parquet file"),
    ],
)
def test_a_file_that_is_no_table_raises_an_error(world, name, content, message):
    if content is not None:
        Path(name).write_bytes(content)
    with pytest.raises(OutcropError, match=f"^{name}: {message}") as caught:
        cut_at_positions("cube.npy", name, size=SIZE)
    assert "; " in str(caught.value)


def test_several_sources_need_their_column(world):
    np.save("other.npy", samples())
    broken(lambda table: table.drop(columns="source"))
    assert len(cut_at_positions("cube.npy", "t.csv", size=SIZE)) == 10
    with pytest.raises(OutcropError, match=r"t.csv: has no column 'source'"):
        cut_at_positions(["cube.npy", "other.npy"], "t.csv", size=SIZE)


def test_patches_larger_than_a_slice_raise_an_error(world):
    with pytest.raises(OutcropError, match=r"cube.npy: has slices of .*, smaller than a patch of"):
        cut_at_positions("cube.npy", "t.csv", size=27)
    write_raster("a.tif", ramp())
    pd.DataFrame({"row": [0], "column": [0], "label": ["a"]}).to_csv("t.csv", index=False)
    with pytest.raises(OutcropError, match=r"line 2 has a patch of 41 .* the 40 × 50 of a.tif"):
        cut_at_positions("a.tif", "t.csv", size=41)


def test_classes_name_the_numbers_of_a_table(world):
    table = rows(40)
    table["label"] = np.array([2, 10, 3])[np.arange(40) % 3]
    table.to_csv("numbers.csv", index=False)
    patches = cut_at_positions(
        "cube.npy", "numbers.csv", size=SIZE, classes=["salt", "sand", "ice"]
    )
    assert patches.classes == ("salt", "sand", "ice")
    value = np.array([2, 3, 10])[patches.labels]
    assert np.array_equal(value, table["label"])
    pairs = ["10=rock", "2=salt", "3=rock", "7=gone"]
    patches = cut_at_positions("cube.npy", "numbers.csv", size=SIZE, classes=pairs)
    assert patches.classes == ("salt", "rock")
    assert np.array_equal(patches.labels == 0, table["label"] == 2)
    with pytest.raises(OutcropError, match=r"has 3 values .2, 3, 10., but `classes` has 2 names"):
        cut_at_positions("cube.npy", "numbers.csv", size=SIZE, classes=["salt", "sand"])
    with pytest.raises(OutcropError, match=r"line 2 has 'salt' as label, and .*; leave `classes`"):
        cut_at_positions("cube.npy", "t.csv", size=SIZE, classes=["salt", "sand"])


def test_classes_of_positions_on_the_command_line(world, capsys):
    table = rows(40)
    table["label"] = 1 + np.arange(40) % 2
    table.to_csv("numbers.csv", index=False)
    cut = "patches cube.npy --positions numbers.csv --size 5 -o p.zarr"
    assert run(f"{cut} --classes salt,sand") == 0
    assert "sand" in capsys.readouterr().out
