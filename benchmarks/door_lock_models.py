"""The door lock's models as this toolkit makes them: the first line of passes of each recipe, without its race."""

from dataclasses import dataclass
from pathlib import Path

from edge.artifact import Artifact

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "out" / "door_lock_models"
RECIPES = {"detector": "face_detector", "liveness": "face_liveness", "embedder": "face_embedder"}


@dataclass(frozen=True)
class Pair:
    """A model as float32 .onnx and as what the recipe makes of it."""

    float32: Path
    int8: Path

    @property
    def smaller(self) -> float:
        """How many times."""
        return self.float32.stat().st_size / self.int8.stat().st_size


def made(part: str) -> Pair:
    """Float and int8 of "detector", "liveness" or "embedder"; kept under out/ by what they are made of.

    Raises BadModel: the weights are not here; the hint says how to bring them.
    """
    from convert.load import describe
    from edgetool.candidates import code_sha256
    from edgetool.recipe import read_recipe
    from edgetool.results import key_of

    recipe = read_recipe(ROOT / "recipes" / f"{RECIPES[part]}.toml")
    assert recipe.sequences is not None
    passes = recipe.sequences[0]
    source = describe(recipe.model)
    folder = OUT / f"{part}-{key_of(source.sha256, repr(passes), code_sha256())[:16]}"
    paths = Pair(folder / "float32.onnx", folder / "int8.onnx")
    if paths.int8.exists():
        return paths
    current: Artifact = source
    floats = source if source.format == "onnx" else None
    for number, step in enumerate(passes):
        scratch = folder / str(number)
        scratch.mkdir(parents=True, exist_ok=True)
        current = step(current, None, scratch, seed=0, trust=False, progress=lambda done, what: None).artifact
        if floats is None and current.format == "onnx":
            floats = current
    assert floats is not None
    paths.float32.write_bytes(floats.path.read_bytes())
    paths.int8.with_suffix(".part").write_bytes(current.path.read_bytes())
    paths.int8.with_suffix(".part").replace(paths.int8)
    return paths
