"""What the commands print of models that learn pictures."""

from __future__ import annotations

from outcrop.cli.tables import say
from outcrop.training.vaegan.run import VaeGanRun


def vaegan_table(run: VaeGanRun) -> None:
    """What the last epoch has shown, and the run."""
    last = run.metrics[-1]
    judged = "the judge" if last.frechet is not None else "its own discriminator"
    if last.pixel_error is not None:
        say(
            f"reconstructions of held-out pictures: error {last.pixel_error:.3f} in pixels"
            + (
                ""
                if last.feature_error is None
                else f", {last.feature_error:.3f} in features of {judged}"
            )
            + " (0 is perfect, 1 no better than another picture)"
        )
    if last.frechet is not None:
        say(
            f"samples: Fréchet distance {last.frechet:.2f} to held-out pictures in features of the "
            f"judge (not the FID); precision {last.precision:.1%}, recall {last.recall:.1%}"
        )
    for alarm in last.alarms:
        say(f"alarm: {alarm}")
    say(str(run.folder))
