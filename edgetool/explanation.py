"""What an explanation says, as text and as JSON."""

from dataclasses import dataclass, field

from edge.occlusion import Deletion
from edge.report import to_json

SHOWN = 5  # regions named in the text; JSON has all


@dataclass(frozen=True)
class ExplainedRegion:
    """A patch in words and as indices along the occluded axes (half open), and its drop of the score."""

    where: str
    start: tuple[int, ...]
    stop: tuple[int, ...]
    drop: float


@dataclass(frozen=True)
class Explanation:
    """Which parts of one input counted for one score. `class_index` is None where the output is a value.

    `drop` is how much lower the score is with the region replaced by the baseline; a value that has no good
    direction drops or rises. `regions` are all patches that were tried, the most important first.
    """

    model: str
    format: str
    input: str
    input_name: str
    kind: str
    preprocessing: str
    output: str
    class_index: int | None
    label: str | None
    score: float
    baseline: str
    explains: bool
    deletion: Deletion
    regions: tuple[ExplainedRegion, ...]
    noise: float
    runs: int
    budget: int
    verdict: str
    picture: str | None = None
    schema: str = field(default="edgetool.explanation/1")

    def as_json(self) -> str:
        """The same as JSON."""
        return to_json(self).rstrip()

    def as_text(self) -> str:
        """One fact a line."""
        counted = [region for region in self.regions if abs(region.drop) > self.noise][:SHOWN]
        lines = [f"{'':<12}{r.drop:<11.4g} {r.where}" for r in counted]
        picture = self.picture or "not written: --out PICTURE.png"
        return "\n".join(
            [
                f"explained   {self.title}",
                f"of          {self.input} ({self.kind}; {self.preprocessing})",
                f"baseline    {self.baseline}, after {self.runs} of at most {self.budget} runs of the model",
                *([f"{'counted':<12}drop        where", *lines] if lines else []),
                f"check       {self.check}",
                f"verdict     {self.verdict}",
                f"picture     {picture}",
            ]
        )

    @property
    def title(self) -> str:
        """`probabilities: class 3 (coat), score 0.91`: what is explained."""
        label = f" ({self.label})" if self.label else ""
        what = "value" if self.class_index is None else f"class {self.class_index}{label}, score"
        return f"{self.output}: {what} {self.score:.4g}"

    @property
    def check(self) -> str:
        """What deletion said."""
        at, moved = self.deletion, "changes the value" if self.class_index is None else "lowers the score"
        return (
            f"replacing the {at.fraction:.0%} that counted most {moved} by {at.top_effect:.4g}, "
            f"the {at.fraction:.0%} that counted least by {at.bottom_effect:.4g}"
        )
