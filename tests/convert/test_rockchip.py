"""Rockchip's tool. Where EDGETOOL_RKNN_PYTHON names its environment it runs for real; elsewhere it says what to do."""

import os
import sys

import numpy as np
import pytest

from convert.rockchip import PYTHON, SOCS, compile_for_rockchip, toolkit
from edge.errors import BadData, BadModel, RuntimeMissing, UnknownName
from tests import models

IMAGES = {"image": np.random.default_rng(3).random((16, 1, 8, 8), np.float32)}


def test_without_its_environment_it_says_what_to_install(monkeypatch):
    monkeypatch.delenv(PYTHON, raising=False)
    with pytest.raises(RuntimeMissing, match=f"{PYTHON} is not set") as caught:
        toolkit()
    assert "rknn-toolkit2==2.5.0 'setuptools<81'" in caught.value.hint
    monkeypatch.setenv(PYTHON, "/nowhere/python")
    with pytest.raises(RuntimeMissing, match="which cannot be run"):
        toolkit()
    monkeypatch.setenv(PYTHON, sys.executable)  # the host environment never has it
    with pytest.raises(RuntimeMissing, match="which has no rknn-toolkit2"):
        toolkit()


def test_a_system_on_chip_that_is_not_known():
    with pytest.raises(UnknownName, match="Rockchip SoC: 'rk3589'") as caught:
        compile_for_rockchip(models.onnx_conv(), "rk3589", IMAGES, IMAGES)
    assert "rk3588" in caught.value.hint


@pytest.fixture
def installed():
    if not os.environ.get(PYTHON):
        pytest.skip(f"{PYTHON} is not set: rknn-toolkit2 (5.4 GB) is not installed")


@pytest.mark.usefixtures("installed")
def test_a_model_is_compiled_and_answers_in_the_simulator():
    content, check = compile_for_rockchip(models.onnx_conv(), "rk3588", IMAGES, IMAGES)
    assert content[:4] == b"RKNN"
    assert (check.soc, check.n, check.status) == ("rk3588", 16, "emulated")
    assert check.worst < 0.2  # int8 in three layers, of the range of the scores
    assert check.mean < 0.05
    assert "emulated" in check.as_text()
    assert "rk3588" in SOCS


@pytest.mark.usefixtures("installed")
def test_what_the_tool_does_not_take():
    rows = {"x": np.random.default_rng(3).random((8, 3, 3), np.float32)}
    with pytest.raises(BadModel, match="cannot be compiled"):
        compile_for_rockchip(models.onnx_unusual_op(), "rk3588", rows, rows)
    with pytest.raises(BadData, match="there are no examples of input 'image'"):
        compile_for_rockchip(models.onnx_conv(), "rk3588", {}, IMAGES)
