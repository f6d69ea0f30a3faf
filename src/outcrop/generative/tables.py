"""The printed results of the generative commands."""

from __future__ import annotations

from collections.abc import Iterator

from outcrop.cli.tables import say, say_table
from outcrop.cli.translate import as_options
from outcrop.generative.drawing import Generated
from outcrop.generative.findings import source_of_features
from outcrop.generative.measures import Measures, ReconstructionMeasures, SampleMeasures
from outcrop.generative.retrieval import Retrieval
from outcrop.generative.run import VaeGanRun
from outcrop.generative.samples import Memorisation

Line = tuple[str, str, str]
_TRIVIAL = "50 % the mean image, 100 % another image"


def vaegan_table(run: VaeGanRun) -> None:
    """Print the measures and alarms of the last epoch, and the run folder."""
    last = run.metrics[-1]
    if last.pixel_error is not None:
        line = f"reconstructions of held-out images: error {last.pixel_error:.3f} in pixels"
        if last.feature_error is not None:
            line += f", {last.feature_error:.3f} in features of {source_of_features(run)}"
        say(f"{line} (0 is perfect, 0.5 the mean image, 1 another image)")
    if last.frechet is not None and last.precision is not None and last.recall is not None:
        say(
            f"samples: Fréchet distance {last.frechet:.2f} to held-out images in features of the "
            f"judge (not the FID); precision {100 * last.precision:.1f} %, recall "
            f"{100 * last.recall:.1f} %"
        )
    for alarm in last.alarms:
        say(f"alarm: {as_options(alarm)}")
    say(str(run.folder))


def generated_table(found: Generated) -> None:
    """Print measures with reference values, the recognition of classes, notes, and files."""
    if found.measures is not None:
        _say_measures(found.measures)
    for note in found.notes:
        say(f"note: {note}")
    for path in found.files:
        say(str(path))


def _say_measures(found: Measures) -> None:
    lines = [*_lines_of_memorisation(found.memorised)]
    if found.sampled is not None:
        lines = [*_lines_of_samples(found.sampled), *lines]
    if found.reconstructed is not None:
        lines = [*_lines_of_reconstructions(found.reconstructed), *lines]
    say_table(("measure", "value", "reference"), lines)
    if found.retrieval is not None:
        _say_retrieval(found.retrieval)
    if found.reconstructed is not None:
        errors = found.reconstructed.band_errors.items()
        words = ", ".join(f"{band} {error:.4g}" for band, error in errors)
        say(f"root mean squared error of reconstructions, in units of the bands: {words}")
    if found.features:
        say(f"features, Fréchet distance, precision, recall: {found.features}")
    say(f"copies: distances in {found.distances}")


def _lines_of_reconstructions(found: ReconstructionMeasures) -> Iterator[Line]:
    yield f"pixel error of {found.pictures:,} reconstructions", str(found.pixel_error), _TRIVIAL
    if found.feature_error is not None:
        yield "feature error", str(found.feature_error), "the same"


def _lines_of_samples(found: SampleMeasures) -> Iterator[Line]:
    limit, halves = found.at_infinity, found.halves
    extrapolated = f"{limit.distance:.3g} [{limit.low:.3g}, {limit.high:.3g}]"
    yield f"Fréchet distance of {found.pictures:,} samples", f"{found.frechet:.3g}", ""
    yield "  extrapolated to infinitely many", extrapolated, "0"
    real = f"{halves.frechet:.3g}, real images"
    yield f"  of {halves.pictures:,}", f"{halves.frechet_of_samples:.3g}", real
    for name in ("precision", "recall"):
        whole, half, best = (
            getattr(one, name) for one in (found.shares, halves.shares_of_samples, halves.shares)
        )
        yield f"{name} of {found.pictures:,} samples", str(whole), ""
        yield f"  of {halves.pictures:,}", str(half), f"{_percent(best.value)}, real images"


def _lines_of_memorisation(found: Memorisation) -> Iterator[Line]:
    yield "samples closer to training than held-out images", str(found.nearer), "50.0 %, no copies"
    yield "  than nearly all of them", _percent(found.copies), "1.0 %, no copies"
    yield (
        "samples closer to training than to held-out images",
        str(found.training_side),
        f"{_percent(found.expected_side)}, no copies",
    )


def _say_retrieval(found: Retrieval) -> None:
    rows = [
        (
            row.name,
            *(str(one.share) if one else "" for one in (row.generated, row.real, row.untouched)),
            f"{row.generated.cosine:.3f}",
            f"{row.generated.squared_error:.3f}",
        )
        for row in (*found.rows, found.mean)
        if row.generated.pictures
    ]
    columns = ("class added", "recognised", "real images", "not added", "cosine", "squared error")
    say_table(columns, rows)
    say("recognised: share that the judge assigns to the class, added to images of other classes")


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
