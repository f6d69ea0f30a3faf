from __future__ import annotations

import hashlib
import io
import tarfile
import threading
import zipfile
import zlib
from collections import Counter
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from rasterio.enums import ColorInterp

from outcrop.errors import OutcropError
from outcrop.patches.collection import from_collection, open_patches
from outcrop.sources.collections import Collection, cifar, cifar10, read_collection
from outcrop.sources.collections.collection import open_members
from outcrop.sources.collections.folder import list_entries
from outcrop.sources.collections.npz import band_axis
from tests.shared import DATA, needs_shared

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")

RNG = np.random.default_rng(4)
CLASSES = b"airplane\nautomobile\nbird\ncat\ndeer\ndog\nfrog\nhorse\nship\ntruck\n\n"


def png(image: np.ndarray | Image.Image) -> bytes:
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, "PNG")
    return buffer.getvalue()


def rgb(size: int = 6) -> np.ndarray:
    return RNG.integers(0, 256, (size, size, 3), dtype=np.uint8)


def tiff(bands: np.ndarray, **options: object) -> bytes:
    count, height, width = bands.shape
    with rasterio.MemoryFile() as memory:
        with memory.open(
            driver="GTiff", count=count, height=height, width=width, dtype=bands.dtype, **options
        ) as target:
            target.write(bands)
        return bytes(memory.getbuffer())


def lay(root: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def tar(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:" + path.suffix[1:].replace("tar", "").replace("tgz", "gz")) as t:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            t.addfile(member, io.BytesIO(content))
    return path


def zipped(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def npz(path: Path, **arrays: object) -> Path:
    np.savez(path, **arrays)
    return path


def cifar_files(records: int = 3, prefix: str = "cifar-10-batches-bin/") -> dict[str, bytes]:
    files = {f"{prefix}batches.meta.txt": CLASSES, f"{prefix}readme.html": b"see home page"}
    # In the real archive the batches are not in order either.
    for name in [f"data_batch_{i}.bin" for i in (1, 5, 2, 3, 4)] + ["test_batch.bin"]:
        batch = RNG.integers(0, 256, (records, 3073), dtype=np.uint8)
        batch[:, 0] = RNG.permutation(10)[:records]
        files[prefix + name] = batch.tobytes()
    return files


def same(a: Collection, b: Collection) -> None:
    np.testing.assert_array_equal(a.images, b.images)
    np.testing.assert_array_equal(a.labels, b.labels)
    assert (a.classes, a.bands) == (b.classes, b.bands)
    assert (a.sides is None) == (b.sides is None)
    if a.sides is not None and b.sides is not None:
        np.testing.assert_array_equal(a.sides, b.sides)


PIXELS = {f"{c}/{i}.png": rgb() for c in ("mud", "bay", "rice") for i in (2, 0, 1)}


class TestClassFolders:
    @pytest.fixture
    def files(self) -> dict[str, bytes]:
        return {name: png(image) for name, image in PIXELS.items()}

    def test_classes_and_files_are_sorted(self, tmp_path, files):
        found = read_collection(lay(tmp_path, files))
        assert found.classes == ("bay", "mud", "rice")
        assert found.names == tuple(sorted(files))
        assert found.bands == ("red", "green", "blue")
        assert found.sides is None
        assert found.images.dtype == np.uint8
        assert found.labels.dtype == np.int64
        assert found.labels.tolist() == [0] * 3 + [1] * 3 + [2] * 3
        for name, image in zip(found.names, found.images, strict=True):
            np.testing.assert_array_equal(image, PIXELS[name].transpose(2, 0, 1))

    @pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.tgz", "a.tar.xz", "a.zip"])
    def test_an_archive_in_any_order_equals_the_folder(self, tmp_path, files, name):
        folder = read_collection(lay(tmp_path / "folder", files))
        order = RNG.permutation(list(files))
        shuffled = {f"./wrapped/{n}": files[n] for n in order}
        pack = zipped if name.endswith("zip") else tar
        before = set(tmp_path.rglob("*"))
        archive = pack(tmp_path / name, shuffled)
        found = read_collection(archive)
        same(found, folder)
        assert found.names == tuple(f"wrapped/{n}" for n in folder.names or ())
        assert set(tmp_path.rglob("*")) == before | {archive}

    def test_hidden_files_and_other_files_are_ignored(self, tmp_path, files):
        clutter = ("mud/.hidden.png", "__MACOSX/mud/._1.png", "mud/Thumbs.db", "README", ".git/a/b")
        same(
            read_collection(zipped(tmp_path / "a.zip", {**dict.fromkeys(clutter, b"?"), **files})),
            read_collection(lay(tmp_path / "folder", files)),
        )

    def test_a_single_held_out_part_is_the_validation_side(self, tmp_path, files):
        for held_out in ("test", "val", "Validation"):
            parts = {f"train/{n}": c for n, c in files.items() if not n.endswith("2.png")}
            parts |= {f"{held_out}/{n}": c for n, c in files.items() if n.endswith("2.png")}
            found = read_collection(lay(tmp_path / held_out, parts))
            assert found.classes == ("bay", "mud", "rice")
            assert found.sides.tolist() == [0, 0, 1] * 3

    def test_validation_and_test_are_two_sides(self, tmp_path, files):
        parts = {f"{s}/{n}": c for s in ("train", "val", "test") for n, c in files.items()}
        patches = open_patches(lay(tmp_path, parts))
        column = patches.columns["side"]
        assert column.names == ("train", "validation", "test")
        assert column.codes.tolist() == ([0] * 3 + [1] * 3 + [2] * 3) * 3

    def test_grey_stays_grey_and_other_colour_models_become_rgb(self, tmp_path):
        grey = rgb()[..., 0]
        alpha = Image.fromarray(grey)
        for folder, kinds, bands in (
            ("grey", [Image.fromarray(grey), Image.merge("LA", (alpha, alpha))], ("grey",)),
            (
                "rgb",
                [Image.merge("RGBA", [alpha] * 4), Image.fromarray(grey).convert("P")],
                ("red", "green", "blue"),
            ),
        ):
            files = {f"{k}/0.png": png(image) for k, image in enumerate(kinds)}
            found = read_collection(lay(tmp_path / folder, files))
            assert found.bands == bands
            np.testing.assert_array_equal(found.images, np.broadcast_to(grey, found.images.shape))

    def test_a_png_of_16_bits_keeps_its_dtype(self, tmp_path):
        bands = RNG.integers(0, 65536, (4, 5, 5), dtype=np.uint16)
        with rasterio.MemoryFile() as memory:
            with memory.open(driver="PNG", count=4, height=5, width=5, dtype="uint16") as target:
                target.write(bands)
            content = bytes(memory.getbuffer())
        found = read_collection(lay(tmp_path, {"a/0.png": content, "b/0.png": content}))
        np.testing.assert_array_equal(found.images[0], bands[:3])

    @pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32", "float64"])
    @pytest.mark.parametrize("count", [1, 3, 4, 6])
    def test_a_tiff_keeps_all_bands(self, tmp_path, dtype, count):
        bands = RNG.integers(0, 200, (count, 7, 5)).astype(dtype)
        content = tiff(bands)
        found = read_collection(lay(tmp_path, {"a/0.tif": content, "b/0.TIFF": content}))
        assert found.images.dtype == ("float32" if dtype == "float64" else dtype)
        np.testing.assert_array_equal(found.images[1], bands)
        assert len(found.bands) == count

    def test_nodata_of_a_float_tiff_becomes_nan(self, tmp_path):
        bands = np.ones((1, 5, 5), np.float32)
        bands[0, 0, 0] = -9999
        content = tiff(bands, nodata=-9999)
        found = read_collection(lay(tmp_path, {"a/0.tif": content, "b/0.tif": content}))
        assert np.isnan(found.images[:, 0, 0, 0]).all()
        assert np.isnan(found.images).sum() == 2

    def test_the_palette_of_a_tiff_is_applied(self, tmp_path):
        with rasterio.MemoryFile() as memory:
            with memory.open(
                driver="GTiff", count=1, height=4, width=4, dtype="uint8", photometric="palette"
            ) as target:
                target.colorinterp = [ColorInterp.palette]
                target.write_colormap(1, {0: (0, 0, 0, 255), 7: (10, 20, 30, 255)})
                target.write(np.full((1, 4, 4), 7, np.uint8))
            content = bytes(memory.getbuffer())
        found = read_collection(lay(tmp_path, {"a/0.tif": content, "b/0.tif": content}))
        assert found.images[0, :, 0, 0].tolist() == [10, 20, 30]


class TestCifar10:
    @pytest.fixture
    def server(self, tmp_path):
        root = tmp_path / "home"
        root.mkdir()

        class Quiet(SimpleHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(root)))
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield root, f"http://127.0.0.1:{server.server_port}/cifar-10-binary.tar.gz"
        server.shutdown()
        server.server_close()
        thread.join()

    def test_records_have_a_label_and_three_bands(self, tmp_path):
        files = cifar_files()
        found = read_collection(tar(tmp_path / "c.tar.gz", files))
        same(found, read_collection(lay(tmp_path / "folder", files)))
        assert found.classes == tuple(CLASSES.decode().split())
        assert found.images.shape == (18, 3, 32, 32)
        assert found.sides.tolist() == [0] * 15 + [1] * 3
        record = files["cifar-10-batches-bin/data_batch_2.bin"][:3073]
        assert found.labels[3] == record[0]
        assert found.images[3, 1, 2, 5] == record[1 + 1024 + 2 * 32 + 5]
        found.images[0] = 0

    def test_the_archive_is_downloaded_once_with_its_checksum(self, tmp_path, server):
        root, url = server
        archive = tar(root / "cifar-10-binary.tar.gz", cifar_files())
        content = archive.read_bytes()
        cache = tmp_path / "cache"
        md5, sha256 = hashlib.md5(content).hexdigest(), hashlib.sha256(content).hexdigest()
        for checksum in (f"md5:{md5}", f"sha256:{sha256}"):
            same(cifar10(cache, url, checksum), read_collection(tmp_path / "cache" / archive.name))
            if archive.exists():
                archive.unlink()
        assert [path.name for path in cache.iterdir()] == [archive.name]

    def test_a_damaged_copy_in_the_cache_is_replaced(self, tmp_path, server):
        root, url = server
        archive = tar(root / "cifar-10-binary.tar.gz", cifar_files())
        checksum = hashlib.sha256(archive.read_bytes()).hexdigest()
        (tmp_path / archive.name).write_bytes(b"half of it")
        assert len(cifar10(tmp_path, url, checksum)) == 18

    def test_a_wrong_checksum_raises_an_error_and_keeps_nothing(self, tmp_path, server):
        root, url = server
        tar(root / "cifar-10-binary.tar.gz", cifar_files())
        with pytest.raises(OutcropError, match=r"does not have the checksum md5:c32a.*manually"):
            cifar10(tmp_path / "cache", url)
        assert list((tmp_path / "cache").iterdir()) == []

    def test_a_missing_url_raises_an_error(self, tmp_path, server):
        with pytest.raises(OutcropError, match=r"HTTP 404.*manually and pass the path"):
            cifar10(tmp_path, server[1])

    def test_a_missing_server_raises_an_error(self, tmp_path):
        with pytest.raises(OutcropError, match=r"no answer.*manually and pass the path"):
            cifar10(tmp_path, "http://127.0.0.1:9/cifar-10-binary.tar.gz")

    def test_a_cache_that_is_a_file_raises_an_error(self, tmp_path):
        (tmp_path / "cache").write_bytes(b"")
        with pytest.raises(OutcropError, match="cache: cannot be written"):
            cifar10(tmp_path / "cache", "http://127.0.0.1:9/x.tar.gz")

    def test_the_name_cifar10_downloads_the_archive(self, tmp_path, server, monkeypatch):
        root, url = server
        archive = tar(root / "cifar-10-binary.tar.gz", cifar_files())
        checksum = "md5:" + hashlib.md5(archive.read_bytes()).hexdigest()
        monkeypatch.setattr(
            "outcrop.patches.collection.cifar10", partial(cifar10, tmp_path, url, checksum)
        )
        patches = open_patches("cifar10")
        assert len(patches) == 18
        assert patches.columns["side"].codes.sum() == 3

    def test_the_published_archive_is_the_default(self):
        assert cifar.URL == "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
        assert cifar.CHECKSUM == "md5:c32a1d4ab5d03f1284b67883e8d87530"


@pytest.fixture(scope="module")
def scratch(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("npz")


sizes = st.integers(2, 9)
images = st.tuples(st.integers(2, 5), st.integers(1, 12), sizes, sizes).flatmap(
    lambda shape: hnp.arrays(
        st.sampled_from([np.uint8, np.uint16, np.int16, np.dtype(">i2")]), shape
    )
)


class TestNpz:
    @given(images, st.booleans())
    def test_both_layouts_give_the_same_images(self, scratch, images, last):
        stored = np.moveaxis(images, 1, 3) if last else images
        labels = np.arange(len(images)) % 2
        layout = "NHWC" if last else "NCHW"
        found = read_collection(npz(scratch / "a.npz", images=stored, labels=labels, layout=layout))
        np.testing.assert_array_equal(found.images, images)
        assert found.images.dtype == images.dtype.newbyteorder("=")
        assert found.labels.tolist() == labels.tolist()
        assert found.classes == ("0", "1")

    def test_band_names_of_the_file_are_used(self, scratch):
        images, names = np.zeros((2, 2, 5, 5), np.uint8), ["near infrared", "red"]
        for bands in (names, np.array(names, dtype="S")):
            stored = npz(scratch / "b.npz", images=images, labels=[0, 1], bands=bands)
            assert read_collection(stored).bands == ("near infrared", "red")

    @given(st.integers(1, 20), st.integers(1, 20))
    def test_the_band_axis_of_square_images_is_never_wrong(self, bands, size):
        assert band_axis((2, bands, size, size)) in (1, None)
        assert band_axis((2, size, size, bands)) in (3, None)
        if bands != size:
            assert band_axis((2, bands, size, size)) == 1
            assert band_axis((2, size, size, bands)) == 3

    def test_grey_images_without_a_band_axis(self, tmp_path):
        found = read_collection(
            npz(tmp_path / "a.npz", images=np.zeros((2, 4, 6)), labels=np.array([3, 1]))
        )
        assert found.images.shape == (2, 1, 4, 6)
        assert found.images.dtype == np.float32
        assert found.bands == ("grey",)
        assert found.classes == ("1", "3")
        assert found.labels.tolist() == [1, 0]

    @pytest.mark.parametrize("kind", ["U", "S"])
    def test_labels_may_be_class_names(self, tmp_path, kind):
        arrays = {
            "images": np.zeros((3, 2, 5, 5), np.float32),
            "labels": np.array(["mud", "bay", "mud"]).astype(kind),
        }
        found = read_collection(npz(tmp_path / "a.npz", **arrays))
        assert (found.classes, found.labels.tolist()) == (("bay", "mud"), [1, 0, 1])
        names = np.array(["rice", "mud", "bay"]).astype(kind)
        found = read_collection(npz(tmp_path / "b.npz", **arrays, classes=names, sides=[0, 0, 2]))
        assert (found.classes, found.labels.tolist()) == (("rice", "mud", "bay"), [1, 2, 1])
        assert found.sides.tolist() == [0, 0, 1]


IMAGES = np.zeros((2, 3, 8, 8), np.uint8)
GAP = np.zeros((2, 1, 3, 3), np.float32)
GAP[1, 0, 1, 1] = np.nan
CUT = png(rgb())[:-40]
PAIR = {"a/0.png": png(rgb()), "b/0.png": png(rgb())}


def patched(content: bytes, at: int, new: bytes) -> bytes:
    return content[:at] + new + content[at + len(new) :]


def bomb() -> bytes:
    header = b"IHDR\0\0\x50\0\0\0\x20\0\x08\x02\0\0\0"
    return patched(png(rgb()), 12, header + zlib.crc32(header).to_bytes(4, "big"))


def tiff_bomb() -> bytes:
    with rasterio.MemoryFile() as memory:
        memory.open(
            driver="GTiff",
            count=1,
            height=20_000,
            width=20_000,
            dtype="uint8",
            blockysize=20_000,
            sparse_ok=True,
        ).close()
        return bytes(memory.getbuffer())


def cut(path: Path, keep: float | int) -> Path:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep) if isinstance(keep, float) else keep])
    return path


BAD = {
    "nothing there": (lambda p: p / "none", "none: there is no such file or folder"),
    "not a collection": (lambda p: lay(p, {"a.txt": b""}) / "a.txt", "is not a collection; pass"),
    "empty folder": (lambda p: p, "has no PNG, JPEG or TIFF images; put each"),
    "empty archive": (lambda p: tar(p / "a.tar", {}), "has no PNG"),
    "one class": (lambda p: lay(p, {"mud/0.png": png(rgb())}), "only the class 'mud'"),
    "one class in two sides": (
        lambda p: lay(p, {"train/mud/0.png": b"", "test/mud/0.png": b""}),
        "only the class 'mud'",
    ),
    "no class folder": (lambda p: lay(p, {"0.png": b"", **PAIR}), "0.png: is not in a class"),
    "sides for classes": (
        lambda p: lay(p, {"train/0.png": b"", "test/0.png": b""}),
        "is not in a class folder",
    ),
    "too deep": (lambda p: lay(p, {"a/x/0.png": b"", **PAIR}), "a/x/0.png: is not in a"),
    "half in sides": (
        lambda p: lay(p, {"train/a/0.png": b"", **PAIR}),
        "inside and outside train or test",
    ),
    "two sizes": (
        lambda p: lay(p, {**PAIR, "b/1.png": png(rgb(7))}),
        r"b/1.png: has 7 × 7 pixels in 3 bands of uint8, but a/0.png has 6 × 6",
    ),
    "two band counts": (
        lambda p: zipped(p / "a.zip", {**PAIR, "b/1.png": png(rgb()[..., 0])}),
        r"a.zip:b/1.png: has 6 × 6 pixels in 1 band of uint8, but a/0.png has .* 3 bands",
    ),
    "truncated image": (lambda p: lay(p, {**PAIR, "a/1.png": CUT}), "a/1.png: is not a readable"),
    "truncated in a tar": (
        lambda p: tar(p / "a.tar", {**PAIR, "a/1.png": CUT}),
        r"a.tar:a/1.png: is not a readable image",
    ),
    "not an image": (
        lambda p: lay(p, {**PAIR, "a/1.jpg": b"GIF89a"}),
        "a/1.jpg: is not a readable",
    ),
    "truncated TIFF": (
        lambda p: lay(p, {"a/1.tif": tiff(np.zeros((1, 40, 40), np.uint8))[:90], **PAIR}),
        "a/1.tif: is not a readable",
    ),
    "TIFF of another type": (
        lambda p: lay(p, {"a/1.tif": tiff(np.zeros((1, 4, 4), np.int32)), **PAIR}),
        "pixels are int32, not one of uint8",
    ),
    "bomb": (
        lambda p: lay(p, {**PAIR, "a/1.png": bomb()}),
        r"a/1.png: is not a readable image \(.*decompression bomb",
    ),
    "TIFF bomb": (
        lambda p: lay(p, {**PAIR, "a/1.tif": tiff_bomb()}),
        r"a/1.tif: is not a readable image \(more than \d+ pixels",
    ),
    "infinite": (
        lambda p: lay(
            p,
            {
                f"{k}/0.tif": tiff(np.full((1, 4, 4), v, np.float32))
                for k, v in enumerate([0, np.inf])
            },
        ),
        "1/0.tif has infinite pixels",
    ),
    "tar that is none": (lambda p: lay(p, {"a.tar": b"x" * 5000}) / "a.tar", "not a complete .tar"),
    "zip that is none": (lambda p: lay(p, {"a.zip": b"x" * 5000}) / "a.zip", "not a complete .zip"),
    "tar cut in a file": (lambda p: cut(tar(p / "a.tar", PAIR), 700), "not a complete .tar"),
    "tar cut in a header": (lambda p: cut(tar(p / "a.tar", PAIR), 1200), "not a complete .tar"),
    "tar cut after a file": (lambda p: cut(tar(p / "a.tar", PAIR), 1024), "not a complete .tar"),
    "tar.xz cut": (lambda p: cut(tar(p / "a.tar.xz", PAIR), 0.6), "not a complete .xz"),
    "tar.gz cut": (lambda p: cut(tar(p / "a.tar.gz", PAIR), 0.6), "not a complete .gz"),
    "zip cut": (lambda p: cut(zipped(p / "a.zip", PAIR), 0.6), "not a complete .zip"),
    "tar pointing up": (lambda p: tar(p / "a.tar", {"../a/0.png": b""}), "is outside the archive"),
    "tar from the root": (
        lambda p: tar(p / "a.tar", {"/etc/0.png": b""}),
        "is outside the archive",
    ),
    "zip pointing up": (
        lambda p: zipped(p / "a.zip", {"a/../../0.png": b""}),
        "is outside the archive",
    ),
    "pickled CIFAR-10": (
        lambda p: lay(p, {"data_batch_1": b"\x80\x04."}),
        "is CIFAR-10 in Python pickles, which are not read; pass https",
    ),
    "CIFAR-10 without tests": (
        lambda p: lay(p, {n: c for n, c in cifar_files(prefix="").items() if "test" not in n}),
        "lacks test_batch.bin of CIFAR-10",
    ),
    "CIFAR-10 cut": (
        lambda p: lay(p, {**cifar_files(prefix=""), "data_batch_3.bin": b"x" * 3000}),
        "data_batch_3.bin: has incomplete records of 3073 bytes",
    ),
    "CIFAR-10 label": (
        lambda p: lay(p, {**cifar_files(prefix=""), "data_batch_3.bin": b"\x0a" * 3073}),
        "labels outside the 10 classes",
    ),
    "npz without labels": (
        lambda p: npz(p / "a.npz", images=IMAGES, y=[0, 1]),
        r"has no array 'labels' \(it has images, y\); save",
    ),
    "npz of objects": (
        lambda p: npz(p / "a.npz", images=IMAGES, labels=np.array([{}, None])),
        "has Python objects",
    ),
    "npz that is none": (lambda p: lay(p, {"a.npz": b"hello"}) / "a.npz", "a.npz: "),
    "npz that is empty": (lambda p: lay(p, {"a.npz": b""}) / "a.npz", "not a complete npz"),
    "npz cut": (
        lambda p: cut(npz(p / "a.npz", images=IMAGES, labels=[0, 1]), 0.5),
        "not a complete",
    ),
    "npz of 2 axes": (
        lambda p: npz(p / "a.npz", images=IMAGES[0, 0], labels=[0, 1]),
        "images of the shape",
    ),
    "npz ambiguous": (
        lambda p: npz(p / "a.npz", images=np.zeros((2, 3, 3, 3)), labels=[0, 1]),
        "band axis is ambiguous; add an array 'layout'",
    ),
    "npz layout": (
        lambda p: npz(p / "a.npz", images=IMAGES, labels=[0, 1], layout="CHWN"),
        "add an array 'layout'",
    ),
    "npz of one band name for all": (
        lambda p: npz(p / "a.npz", images=IMAGES, labels=[0, 1], bands=["x"] * IMAGES.shape[1]),
        "give each band one name",
    ),
    "npz of too few band names": (
        lambda p: npz(p / "a.npz", images=IMAGES, labels=[0, 1], bands=["nir"]),
        "give each band one name",
    ),
    "npz of int64": (
        lambda p: npz(p / "a.npz", images=IMAGES.astype(int), labels=[0, 1]),
        "images of int64; save them as one of",
    ),
    "npz in number": (
        lambda p: npz(p / "a.npz", images=IMAGES, labels=[0, 1, 1]),
        "2 images but 3 labels",
    ),
    "npz NaN labels": (
        lambda p: npz(p / "a.npz", images=IMAGES, labels=[0, np.nan]),
        "labels that are NaN; remove",
    ),
    "npz float labels": (
        lambda p: npz(p / "a.npz", images=IMAGES, labels=[0.5, 1]),
        "labels of float64; save integers or class names",
    ),
    "npz one-hot labels": (
        lambda p: npz(p / "a.npz", images=IMAGES, labels=np.eye(2, dtype=int)),
        r"labels of the shape \(2, 2\); save one label per image",
    ),
    "npz unknown class": (
        lambda p: npz(p / "a.npz", images=IMAGES, labels=["mud", "bay"], classes=["mud", "rice"]),
        "label bay outside its 2 classes",
    ),
    "npz label too large": (
        lambda p: npz(p / "a.npz", images=IMAGES, labels=[0, 2], classes=["mud", "rice"]),
        "label 2 outside its 2 classes",
    ),
    "npz sides": (
        lambda p: npz(p / "a.npz", images=IMAGES, labels=[0, 1], sides=[0, 7]),
        "invalid sides; save 2 integers, 0 for train",
    ),
    "npz one class": (
        lambda p: npz(p / "a.npz", images=IMAGES, labels=[1, 1]),
        "has only one class",
    ),
    "npz gap": (
        lambda p: npz(p / "a.npz", images=GAP, labels=[0, 1]),
        "image 1 has no data at its",
    ),
    "npz nothing": (lambda p: npz(p / "a.npz", images=IMAGES[:0], labels=[]), "which are empty"),
}


@pytest.mark.parametrize(("make", "line"), BAD.values(), ids=BAD)
def test_bad_input_raises_a_one_line_error(tmp_path, make, line):
    with pytest.raises(OutcropError, match=line) as raised:
        open_patches(make(tmp_path))
    assert "\n" not in str(raised.value)


def test_a_damaged_tar_header_raises_an_error(tmp_path):
    path = tar(tmp_path / "a.tar", {**PAIR, "c/0.png": PAIR["a/0.png"]})
    with tarfile.open(path) as archive:
        at = archive.getmembers()[2].offset
    path.write_bytes(patched(path.read_bytes(), at, b"garbage"))
    with pytest.raises(OutcropError, match="damaged header"):
        read_collection(path)


def test_a_large_member_raises_an_error_before_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr("outcrop.sources.collections.collection._LARGEST", 10)
    for path in (tar(tmp_path / "a.tar", PAIR), zipped(tmp_path / "a.zip", PAIR)):
        with pytest.raises(OutcropError, match=r"member 'a/0.png', which is larger than 1 GiB"):
            read_collection(path)


def test_open_patches_opens_patch_sets_and_collections(tmp_path):
    collection = read_collection(lay(tmp_path / "folder", PAIR))
    patches = from_collection(collection)
    assert patches.positions is None
    assert dict(patches.columns) == {}
    patches.save(tmp_path / "a.zarr")
    again = open_patches(tmp_path / "a.zarr")
    np.testing.assert_array_equal(again.images[:], collection.images)
    assert again.fingerprint == patches.fingerprint
    assert (again.classes, again.bands) == (collection.classes, collection.bands)


@needs_shared
def test_real_cifar10_as_class_folders(tmp_path):
    with open_members(DATA / "cifar10-jpeg.tar.xz") as members:
        entries = list_entries(members)
        kept = {e.name for e in entries if e.label in ("airplane", "truck") and "/000" in e.name}
        jpegs = {name: members.read(name) for name in members.names if name in kept}
    count = Counter((entry.label, entry.side) for entry in entries)
    assert len(count) == 20
    assert all(n == (1000 if side else 5000) for (_, side), n in count.items())

    found = read_collection(tar(tmp_path / "few.tar.xz", jpegs))
    assert found.images.shape == (40, 3, 32, 32)
    assert (found.names[0], found.names[-1]) == ("train/airplane/0000.jpg", "test/truck/0009.jpg")
    assert found.sides.tolist() == ([0] * 10 + [1] * 10) * 2
    assert found.images[0, :, 0, 0].tolist() == [200, 202, 197]
