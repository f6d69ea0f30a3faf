"""Sentences and tiles about the metrics of a generative run, with their limits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from outcrop.cli.translate import as_options
from outcrop.generative.metrics import (
    ACTIVE_NATS,
    DOMINATES,
    VaeGanMetrics,
    accuracies,
    mean_accuracy,
)
from outcrop.generative.run import VaeGanRun
from outcrop.reporting.html import Tile, listed, percent

_MEAN_IMAGE, _ANOTHER_IMAGE = 0.5, 1.0
_ABOUT = 0.02
_LOWER = 0.9
_NEARLY_ALL, _HARDLY_ANY = 0.9, 0.1
_GUESSING = 0.6


@dataclass(frozen=True)
class Alarm:
    """A problem in one epoch or several.

    Attributes:
        detail: the details in the last of them.
        remedy: a possible remedy; "" if none is known.
    """

    what: str
    epochs: tuple[int, ...]
    detail: str
    remedy: str

    @property
    def when(self) -> str:
        """The epochs, with successive ones as a range.

        >>> Alarm("samples repeat", (1, 2, 3, 7), "", "").when
        '1–3, 7'
        """
        ranges: list[list[int]] = []
        for epoch in self.epochs:
            if ranges and ranges[-1][-1] == epoch - 1:
                ranges[-1][1:] = [epoch]
            else:
                ranges.append([epoch])
        return ", ".join("–".join(map(str, each)) for each in ranges)


def alarms(metrics: Sequence[VaeGanMetrics]) -> list[Alarm]:
    """The alarms of all epochs, one of each kind, by falling frequency."""
    found: dict[str, list[tuple[int, str]]] = {}
    for epoch in metrics:
        for alarm in epoch.alarms:
            what, _, rest = as_options(alarm).partition(": ")
            found.setdefault(what, []).append((epoch.epoch, rest))
    kinds = []
    for what, each in found.items():
        detail, _, remedy = each[-1][1].partition("; try ")
        kinds.append(Alarm(what, tuple(epoch for epoch, _ in each), detail, remedy))
    return sorted(kinds, key=lambda kind: -len(kind.epochs))


def source_of_features(run: VaeGanRun) -> str:
    """The network in whose features reconstructions were measured."""
    if run.judged:
        return "the judge"
    own = run.model.network.adversarial
    return "its own discriminator" if own else "the discriminator of the given run"


def tiles(run: VaeGanRun) -> list[Tile]:
    """The main values of the last epoch."""
    last, found = run.metrics[-1], []
    if last.pixel_error is not None:
        found.append(
            Tile(
                "Error of reconstructions",
                f"{last.pixel_error:.2f}",
                "in pixels: 0 is perfect, 0.5 the mean image, 1 another image",
            )
        )
    if last.frechet is not None:
        found.append(
            Tile(
                "Fréchet distance (not FID)",
                f"{last.frechet:.3g}",
                "between samples and held-out images, in features of the judge",
            )
        )
    if last.awake is not None:
        found.append(
            Tile(
                "Active dimensions",
                f"{last.awake} of {len(last.divergence)}",
                f"a code has {last.prior:.3g} nats of information about its image",
            )
        )
    if (right := mean_accuracy(accuracies(last))) is not None:
        shares = [f"{name} {percent(share, 0)}" for name, share in accuracies(last).items()]
        found.append(Tile("Discriminator accuracy", percent(right), ", ".join(shares)))
    if last.frechet is None and last.repeats is not None:
        share = percent(last.repeats)
        found.append(Tile("Repeated samples", share, "nearly equal to another sample"))
    return found


def sentences(run: VaeGanRun) -> list[str]:
    """The results in sentences, by falling importance."""
    last = run.metrics[-1]
    return [
        *_reconstructions(run),
        *_samples(run),
        *_verdicts(last),
        *_code(last),
        _alarmed(run),
        *_cautions(run),
    ]


def _reconstructions(run: VaeGanRun) -> Iterator[str]:
    last = run.metrics[-1]
    error = last.pixel_error
    if error is None:
        if run.model.network.has_encoder:
            yield "Reconstructions were not measured, because too few images were held out."
        return
    yield (
        f"Reconstructions of held-out images have a relative error of {error:.2f} in pixels: "
        f"{_compared(error)}."
    )
    if last.feature_error is not None:
        yield (
            f"In features of {source_of_features(run)} the relative error is "
            f"{last.feature_error:.2f}: {_compared(last.feature_error)}."
        )
    known = [epoch for epoch in run.metrics if epoch.pixel_error is not None]
    best = min(known, key=lambda epoch: epoch.pixel_error or 0.0)
    if best.pixel_error is not None and best.pixel_error < _LOWER * error:
        yield (
            f"The error in pixels was lower after epoch {best.epoch}, {best.pixel_error:.2f}. The "
            "networks are always those after the last epoch."
        )


def _compared(error: float) -> str:
    """A relative error compared with those of trivial reconstructions."""
    if error > _ANOTHER_IMAGE - _ABOUT:
        return "no better than another image"
    if abs(error - _MEAN_IMAGE) <= _ABOUT:
        return "about the error of the mean image"
    return f"{'lower' if error < _MEAN_IMAGE else 'higher'} than that of the mean image"


def _samples(run: VaeGanRun) -> Iterator[str]:
    last = run.metrics[-1]
    if not run.judged:
        yield (
            "The similarity of samples to real images was not measured: that needs a judge "
            "(`--judge`)."
        )
    if last.frechet is not None:
        yield (
            f"Samples have a Fréchet distance of {last.frechet:.3g} to held-out images, in "
            "features of the judge, a network trained by outcrop. It is not the FID. Compare it "
            "only with distances to the same images by the same judge."
        )
    if last.precision is not None and last.recall is not None:
        verdict = ""
        if last.recall < _HARDLY_ANY:
            verdict = ": the samples cover few of the real images"
        elif last.precision < _HARDLY_ANY:
            verdict = ": few samples look real"
        yield (
            f"{percent(last.precision)} of the samples lie among the held-out images (precision), "
            f"and {percent(last.recall)} of these among the samples (recall), in features of the "
            f"judge{verdict}."
        )
    if last.repeats is not None:
        share = percent(last.repeats) if last.repeats else "None"
        yield f"{share} of the examined samples nearly equal another one."


def _verdicts(last: VaeGanMetrics) -> Iterator[str]:
    shares = accuracies(last)
    if not shares:
        return
    right = mean_accuracy(shares)
    real, *generated = shares.values()
    if min(shares.values()) > DOMINATES:
        verdict = "it wins, and the decoder learns little from it"
    elif real < _HARDLY_ANY and min(generated) > _NEARLY_ALL:
        verdict = "it classifies nearly every image as generated"
    elif real > _NEARLY_ALL and max(generated) < _HARDLY_ANY:
        verdict = "it classifies nearly every image as real"
    elif right > _NEARLY_ALL:
        verdict = "it is far ahead of the decoder"
    elif right < _GUESSING:
        verdict = "hardly better than chance"
    else:
        verdict = "better than chance, and far from perfect"
    words = listed([f"{percent(share)} of the {name}" for name, share in shares.items()])
    yield f"In the last epoch the discriminator was right for {words} images: {verdict}."


def _code(last: VaeGanMetrics) -> Iterator[str]:
    if last.awake is None or last.prior is None:
        return
    number = str(last.awake) if last.awake else "None"
    are = "is" if last.awake == 1 else "are"
    yield (
        f"{number} of {len(last.divergence)} dimensions of the code {are} active (more than "
        f"{ACTIVE_NATS} nats); all dimensions together have {last.prior:.3g} nats."
    )


def _alarmed(run: VaeGanRun) -> str:
    epochs = [epoch for epoch in run.metrics if epoch.alarms]
    total = "1 epoch" if len(run.metrics) == 1 else f"{len(run.metrics)} epochs"
    if not epochs:
        return f"No alarm was raised in {total}."
    kinds = listed([alarm.partition(": ")[0] for alarm in run.metrics[-1].alarms])
    last = f"in the last one: {kinds}" if kinds else "none in the last one"
    return f"Alarms were raised in {len(epochs)} of {total}; {last}."


def _cautions(run: VaeGanRun) -> Iterator[str]:
    measured = run.judged or run.metrics[-1].pixel_error is not None
    if measured and not run.split.spatial:
        yield (
            "The split is random. If patches are cut from ground, neighbours of held-out images "
            "are in the training side, and the measures are too good."
        )
