import pytest

from edge.errors import BadRecipe
from edge.target import target
from edgetool.passes.step import label
from edgetool.search.sampling import Observed, suggest
from edgetool.search.space import shortened, space_for, trained

PI = target("raspberrypi5")


def names(space, axis):
    return [[step.name for step in choice] for choice in next(a for a in space.axes if a.name == axis).choices]


def test_a_convolutional_model_may_be_shrunk_made_sparse_and_quantized():
    space = space_for("keras", {"Conv2D": 3, "Dense": 1}, PI)
    assert [axis.name for axis in space.axes] == ["shrink", "sparsify", "quantize"]
    assert space.size == 4 * 3 * 7
    assert len(list(space.points())) == space.size
    steps = space.sequence((2, 1, 3))
    assert [label(step) for step in steps] == [
        "prune.channel",
        "prune.magnitude(sparsity=0.5)",
        "quantize.int8",
    ]
    assert trained(steps)
    assert not trained(space.sequence((0, 0, 3)))


def test_recurrent_models_become_integers_by_learned_steps_only():
    assert ["quantize.lsq"] in names(space_for("keras", {"GRU": 1, "Dense": 1}, PI), "quantize")
    assert ["quantize.int8"] not in names(space_for("keras", {"GRU": 1, "Dense": 1}, PI), "quantize")


def test_files_that_cannot_be_trained_are_quantized():
    assert [axis.name for axis in space_for("onnx", {"Conv": 2}, PI).axes] == ["quantize"]
    assert all("convert.onnx" not in choice for choice in names(space_for("tflite", {"CONV_2D": 2}, PI), "quantize"))


def test_only_engines_of_the_target():
    space = space_for("keras", {"Dense": 1}, target("ethos-u55-128"))
    assert not any("convert.onnx" in choice for choice in names(space, "quantize"))
    with pytest.raises(BadRecipe, match="no engine of"):
        space_for("rknn", {}, PI)


def test_short_fits_keep_everything_else():
    space = space_for("keras", {"Dense": 1}, PI)
    whole = space.sequence((1, 1, 0))
    short = shortened(whole, 0.34)
    assert [step.epochs for step in short[:2]] == [max(1, round(0.34 * step.epochs)) for step in whole[:2]]
    assert short[2] == whole[2]


def test_what_is_slow_to_judge_is_tried_after_the_other_quantizations():
    space = space_for("keras", {"Dense": 1}, PI)
    begun = [[step.name for step in space.sequence(point)] for point in space.start()]
    assert sorted(point[-1] for point in space.start()) == list(range(7))
    assert begun[-1] == ["quantize.int16x8"]


def test_with_three_objectives_what_could_not_be_made_is_kept_away_from():
    space = space_for("keras", {"Dense": 1}, PI)
    history = [Observed(point, (0.1, 1000.0 - point[-1], 1.0)) for point in space.start()]
    # deep cuts fail whatever the quantization; mild ones lose little
    history += [Observed((3, 2, index), None) for index in range(5)]
    history += [Observed((1, 0, 0), (0.1, 700.0, 0.9))]
    taken = [one.point for one in history]
    for seed in range(5):
        point = suggest(space, history, taken, seed)
        assert point not in taken
        assert point[:2] != (3, 2)


def test_every_point_is_suggested_once_and_the_same_ones_each_time():
    space = space_for("keras", {"Dense": 1}, PI)

    def walk(n):
        taken, history = [], []
        while len(taken) < n and (
            point := suggest(space, history[: max(0, len(history) - 2)], taken, 100 * len(taken))
        ):
            taken.append(point)
            history.append(Observed(point, None if sum(point) == 5 else (float(sum(point)), 1 / (1 + point[0]))))
        return taken

    every = walk(1000)
    assert len(every) == len(set(every)) == space.size
    assert every[: len(space.start())] == list(space.start())
    assert walk(20) == every[:20]
