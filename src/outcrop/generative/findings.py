"""What the metrics of networks that learn pictures say, in sentences that do not oversell."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from outcrop.generative.metrics import ASLEEP, WINS, VaeGanMetrics
from outcrop.generative.run import VaeGanRun
from outcrop.reporting.html import Tile, listed, percent

_MEAN_PICTURE, _ANOTHER_PICTURE = 0.5, 1.0
_ABOUT = 0.02
_LOWER = 0.9
_NEARLY_ALL, _HARDLY_ANY = 0.9, 0.1
_GUESSING = 0.6


@dataclass(frozen=True)
class Alarm:
    """Something that went wrong in one epoch or several.

    Attributes:
        what: in a few words.
        epochs: in which.
        told: in the last of them.
        helps: what may help; "" if nothing is known.
    """

    what: str
    epochs: tuple[int, ...]
    told: str
    helps: str

    @property
    def when(self) -> str:
        """The epochs, with those in a row as a span.

        >>> Alarm("samples repeat", (1, 2, 3, 7), "", "").when
        '1–3, 7'
        """
        spans: list[list[int]] = []
        for epoch in self.epochs:
            if spans and spans[-1][-1] == epoch - 1:
                spans[-1][1:] = [epoch]
            else:
                spans.append([epoch])
        return ", ".join("–".join(map(str, span)) for span in spans)


def alarms(metrics: Sequence[VaeGanMetrics]) -> list[Alarm]:
    """The alarms of all epochs, each kind once, the most frequent first."""
    found: dict[str, list[tuple[int, str]]] = {}
    for epoch in metrics:
        for alarm in epoch.alarms:
            what, _, rest = alarm.partition(": ")
            found.setdefault(what, []).append((epoch.epoch, rest))
    kinds = [
        Alarm(what, tuple(epoch for epoch, _ in each), *_told_and_remedy(each[-1][1]))
        for what, each in found.items()
    ]
    return sorted(kinds, key=lambda kind: -len(kind.epochs))


def _told_and_remedy(rest: str) -> tuple[str, str]:
    told, _, remedy = rest.partition("; try ")
    return told, remedy


def features_of(run: VaeGanRun) -> str:
    """In whose features reconstructions were measured."""
    if run.judged:
        return "the judge"
    return "its own discriminator" if run.model.network.plays else "the discriminator it was given"


def tiles(run: VaeGanRun) -> list[Tile]:
    """The last epoch in a few numbers."""
    last, found = run.metrics[-1], []
    if last.pixel_error is not None:
        found.append(
            Tile(
                "Error of reconstructions",
                f"{last.pixel_error:.2f}",
                "in pixels: 0 is perfect, 0.5 the mean picture, 1 another picture",
            )
        )
    if last.frechet is not None:
        found.append(
            Tile(
                "Fréchet distance, no FID",
                f"{last.frechet:.3g}",
                "of samples from held-out pictures, in features of the judge",
            )
        )
    if last.awake is not None:
        found.append(
            Tile(
                "Dimensions awake",
                f"{last.awake} of {len(last.divergence)}",
                f"a code says {last.prior:.3g} nats of its picture",
            )
        )
    if (right := _right(last)) is not None:
        shares = [f"{name} {percent(share, 0)}" for name, share in _shares(last).items()]
        found.append(Tile("Discriminator right", percent(right), ", ".join(shares)))
    if last.frechet is None and last.repeats is not None:
        share = percent(last.repeats)
        found.append(Tile("Samples that repeat", share, "nearly the same as another sample"))
    return found


def sentences(run: VaeGanRun) -> list[str]:
    """What to take home, the most important first."""
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
            yield "Nothing was measured of reconstructions: too few pictures were held out."
        return
    yield (
        "Reconstructions differ from their originals, which were held out, by "
        f"{error:.2f} of what two pictures differ, in pixels: {_beside(error)}."
    )
    if last.feature_error is not None:
        yield (
            f"In features of {features_of(run)} they differ by {last.feature_error:.2f} of that: "
            f"{_beside(last.feature_error)}."
        )
    known = [epoch for epoch in run.metrics if epoch.pixel_error is not None]
    best = min(known, key=lambda epoch: epoch.pixel_error or 0.0)
    if best.pixel_error is not None and best.pixel_error < _LOWER * error:
        yield (
            f"Their error in pixels was lower before, {best.pixel_error:.2f} after epoch "
            f"{best.epoch}; the networks are those after the last epoch, and none was picked."
        )


def _beside(error: float) -> str:
    """An error beside what it would be without any network."""
    if error > _ANOTHER_PICTURE - _ABOUT:
        return "as much as another picture does, or more"
    if abs(error - _MEAN_PICTURE) <= _ABOUT:
        return "about as much as the mean of all pictures does"
    return f"{'less' if error < _MEAN_PICTURE else 'more'} than the mean of all pictures does"


def _samples(run: VaeGanRun) -> Iterator[str]:
    last = run.metrics[-1]
    if not run.judged:
        yield (
            "How like real pictures the samples are was not measured: that takes a judge "
            "(`--judge`)."
        )
    if last.frechet is not None:
        yield (
            f"Samples lie at a Fréchet distance of {last.frechet:.3g} from held-out pictures, in "
            "features of the judge, a network trained by outcrop: that is not the FID, and "
            "compares with distances by the same judge to the same pictures alone."
        )
    if last.precision is not None and last.recall is not None:
        verdict = ""
        if last.recall < _HARDLY_ANY:
            verdict = ": they show little of what there is"
        elif last.precision < _HARDLY_ANY:
            verdict = ": few of them look like any"
        yield (
            f"{percent(last.precision)} of the samples lie among the held-out pictures "
            f"(precision), and {percent(last.recall)} of these among the samples (recall), in "
            f"features of the judge{verdict}."
        )
    if last.repeats is not None:
        share = percent(last.repeats) if last.repeats else "None"
        yield f"{share} of the samples that were looked at are nearly the same as another one."


def _shares(last: VaeGanMetrics) -> dict[str, float]:
    """Of which share of each kind of pictures the discriminator is right."""
    kinds = ("real", "reconstructed", "sampled")
    known = {kind: getattr(last, f"right_of_{kind}") for kind in kinds}
    return {kind: share for kind, share in known.items() if share is not None}


def _right(last: VaeGanMetrics) -> float | None:
    """Of how many pictures the discriminator is right: the mean over real and made ones."""
    real, *made = _shares(last).values() or (0.0,)
    return (real + sum(made) / len(made)) / 2 if made else None


def _verdicts(last: VaeGanMetrics) -> Iterator[str]:
    right, shares = _right(last), _shares(last)
    if right is None:
        return
    real, *made = shares.values()
    if min(shares.values()) > WINS:
        verdict = "it wins, and the decoder learns little from it"
    elif real < _HARDLY_ANY and min(made) > _NEARLY_ALL:
        verdict = "it takes nearly every picture for a made one"
    elif real > _NEARLY_ALL and max(made) < _HARDLY_ANY:
        verdict = "it takes nearly every picture for a real one"
    elif right > _NEARLY_ALL:
        verdict = "it is far ahead of the decoder"
    elif right < _GUESSING:
        verdict = "hardly more often than by guessing"
    else:
        verdict = "more often than by guessing, and far from always"
    told = listed([f"{percent(share)} of the {name}" for name, share in shares.items()])
    yield f"In the last epoch the discriminator was right of {told} pictures: {verdict}."


def _code(last: VaeGanMetrics) -> Iterator[str]:
    if last.awake is None or last.prior is None:
        return
    number = str(last.awake) if last.awake else "None"
    say = "says" if last.awake == 1 else "say"
    yield (
        f"{number} of {len(last.divergence)} dimensions of the code {say} something of the "
        f"picture (more than {ASLEEP} nats); all together say {last.prior:.3g} nats."
    )


def _alarmed(run: VaeGanRun) -> str:
    epochs = [epoch for epoch in run.metrics if epoch.alarms]
    number = len(run.metrics)
    if not epochs:
        return f"No alarm was raised in {_of(number)}."
    kinds = listed([alarm.partition(": ")[0] for alarm in run.metrics[-1].alarms])
    last = f"in the last one: {kinds}" if kinds else "none in the last one"
    return f"Alarms were raised in {len(epochs)} of {_of(number)}; {last}."


def _of(epochs: int) -> str:
    return "1 epoch" if epochs == 1 else f"{epochs} epochs"


def _cautions(run: VaeGanRun) -> Iterator[str]:
    measured = run.judged or run.metrics[-1].pixel_error is not None
    if measured and not run.split.by_ground:
        yield (
            "The split was made at random: where patches are cut from ground, neighbours of the "
            "held-out pictures were trained on, and what was measured flatters."
        )
