import io
import json
import subprocess
import sys
import wave

import numpy as np
import pytest

from edge.audio import AudioInput
from edge.image import ImageInput
from edge.table import TableInput
from tests.edgetool.serve.server import REPOSITORY, refused

PICTURE = np.random.default_rng(3).integers(0, 256, (11, 9), np.uint8)


def npy(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def pgm(picture):
    return b"P5 %d %d 255\n" % picture.shape[::-1] + picture.tobytes()


def png(picture):
    cv2 = pytest.importorskip("cv2")
    return cv2.imencode(".png", picture)[1].tobytes()


def wav(samples, rate_hz):
    stream = io.BytesIO()
    with wave.open(stream, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes((samples * 32767).astype("<i2").tobytes())
    return stream.getvalue()


def cosines(total):
    """What the fake engine says to inputs of this sum."""
    return np.cos(total + np.arange(3))


@pytest.mark.parametrize("name", ["pictures", "my%20pictures"])
def test_a_picture_is_answered_as_the_device_does_in_every_form(served, tmp_path, name):
    (tmp_path / "a.pgm").write_bytes(pgm(PICTURE))
    bundle = next(path for path in served.process.args if path.endswith(f"/{name.replace('%20', ' ')}.edge"))
    command = [sys.executable, "-m", "edge", "run", bundle, str(tmp_path / "a.pgm"), "--top", "3", "--json"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    expected = json.loads(done.stdout)["results"][0]["top"]
    for content, kind in (
        (pgm(PICTURE), "image/x-portable-graymap"),
        (png(PICTURE), "image/png"),
        (npy(PICTURE), "application/x-npy"),
        (json.dumps({"inputs": {"image": PICTURE.tolist()}}), "application/json; charset=utf-8"),
    ):
        status, headers, answer = served.ask(f"/v1/models/{name}/predict", content, kind)
        assert (status, answer["top"]) == (200, expected), kind
        assert headers["cache-control"] == "no-store"
        assert answer["outputs"]["scores"] == pytest.approx(
            [entry["probability"] for entry in sorted(expected, key=lambda entry: entry["index"])]
        )
        assert all(taken >= 0 for taken in answer["milliseconds"].values())


def test_sound_is_resampled_and_padded(served):
    tone = 0.5 * np.sin(np.arange(300) / 7)
    step = AudioInput(16000, 400)
    status, _, answer = served.ask("/v1/models/sounds/predict", wav(tone, 16000), "audio/wav")
    total = step((tone * 32767).astype("<i2")).sum(dtype=np.float64)
    assert (status, answer["outputs"]["output"]) == (200, pytest.approx(cosines(total), abs=1e-3))
    content = wav(tone, 8000)
    status, _, answer = served.ask("/v1/models/sounds/predict", content, "audio/x-wav")
    total = step(step.decode(content, "tone")).sum(dtype=np.float64)
    assert (status, answer["outputs"]["output"]) == (200, pytest.approx(cosines(total), abs=1e-3))
    status, answer = served.predict("sounds", {"sound": [0.25, 1, -1]})
    assert (status, answer["outputs"]["output"]) == (200, pytest.approx(cosines(0.25), abs=1e-3))


def test_rows_arrays_and_several_inputs(served):
    step = TableInput(("age", "height"), (40.0, 1.7), (10.0, 0.1))
    status, answer = served.predict("rows", {"row": [50, 1.75]})
    total = step(np.array([50, 1.75])).sum(dtype=np.float64)
    assert (status, answer["outputs"]["output"]) == (200, pytest.approx(cosines(total), abs=1e-5))
    assert answer["top"] == []
    status, answer = served.predict("two", {"left": [0.5, 1], "right": [1, 2.0, -3]})
    assert (status, answer["outputs"]["output"]) == (200, pytest.approx(cosines(1.5), abs=1e-5))
    status, _, answer = served.ask("/v1/models/fake/predict?top=1", npy(np.full(4, 0.25)), "application/x-npy")
    assert status == 200
    assert [entry["label"] for entry in answer["top"]] == ["a"]
    assert answer["top"][0]["score"] == pytest.approx(np.cos(1))  # cosines are no probabilities


def test_what_is_served(served):
    status, _, content = served.ask("/v1/models")
    assert status == 200
    by_name = {model["name"]: model for model in content["models"]}
    assert set(by_name) == {"fake", "pictures", "my pictures", "sounds", "rows", "two"}
    picture = by_name["my pictures"]
    assert picture["path"] == "/v1/models/my%20pictures/predict"
    assert (picture["engine"], picture["labels"]) == ("onnxruntime", ["cat", "dog", "owl"])
    assert picture["takes"] == ["application/json", "image/*", "application/x-npy"]
    assert picture["placement"]["ops_offloaded"] == picture["placement"]["ops_total"] > 0
    assert picture["inputs"][0]["preprocess"]["kind"] == ImageInput(8, 8, 1).kind
    assert by_name["two"]["takes"] == ["application/json"]
    for model in by_name.values():
        assert len(model["sha256"]) == 64
        assert f"sha256 {model['sha256'][:12]}" in "\n".join(served.lines)


@pytest.mark.parametrize(
    ("model", "body", "content_type", "status", "says"),
    [
        ("fake", "{", "application/json", 400, "no JSON"),
        ("fake", b"\xff\xfe{}", "application/json", 400, "no JSON"),
        ("fake", "[" * 5000, "application/json", 400, "no JSON"),
        ("fake", '{"inputs": {"input": [NaN, 1, 1, 1]}}', "application/json", 400, "no JSON"),
        ("fake", '{"inputs": {"input": [1e999, 1, 1, 1]}}', "application/json", 422, "NaN or infinity"),
        ("fake", '{"inputs": {"input": [1e300, 1, 1, 1]}}', "application/json", 422, "from -1e+30 to 1e+30"),
        ("fake", npy(np.full(4, 1e300)), "application/x-npy", 422, "as the model would see it, has NaN or infinity"),
        ("fake", f'{{"inputs": {{"input": [{"9" * 400}, 1, 1, 1]}}}}', "application/json", 422, "more than 64 bits"),
        ("fake", "3", "application/json", 422, "a number without inputs"),
        ("fake", {"inputs": {}}, "application/json", 422, "'input' is missing"),
        ("fake", {"inputs": {"inputt": [1]}}, "application/json", 422, "did you mean input?"),
        ("fake", {"inputs": {"input": [1, 2, 3, 4]}, "input": 1}, "application/json", 422, "unknown key"),
        ("fake", {"inputs": {"input": [1, 2, 3]}}, "application/json", 422, "takes [4], got [3]"),
        ("fake", {"inputs": {"input": [[1, 2, 3, 4]]}}, "application/json", 422, "without batch axis"),
        ("fake", {"inputs": {"input": [1, [2], 3, 4]}}, "application/json", 422, "different lengths"),
        ("fake", {"inputs": {"input": [1, "2", 3, 4]}}, "application/json", 422, "something else than numbers"),
        ("fake", {"inputs": {"input": [1, True, 3, 4]}}, "application/json", 422, "something else than numbers"),
        ("fake", {"inputs": {"input": [1, None, 3, 4]}}, "application/json", 422, "something else"),
        ("fake", {"inputs": {"input": []}}, "application/json", 422, "empty"),
        ("fake", {"inputs": {"input": {"a": 1}}}, "application/json", 422, "something else"),
        ("two", {"inputs": {"left": [1, 2], "right": [1, 2, 0.5]}}, "application/json", 422, "whole numbers"),
        ("two", {"inputs": {"left": [1, 2], "right": [1, 2, 2**31]}}, "application/json", 422, "whole numbers"),
        ("two", {"inputs": {"left": [1, 2]}}, "application/json", 422, "'right' is missing"),
        ("two", npy(np.zeros(2)), "application/x-npy", 415, "takes application/json"),
        ("pictures", {"inputs": {"image": [[1, 2], [3, 256]]}}, "application/json", 422, "from 0 to 255"),
        ("pictures", {"inputs": {"image": [1, 2]}}, "application/json", 422, "not a picture"),
        ("pictures", b"\x89PNG\r\n\x1a\n", "image/png", 422, "cannot be decoded"),
        ("pictures", b"", "image/png", 422, "cannot be decoded"),
        ("pictures", b"P5 9 9 255\n1", "image/x-portable-graymap", 422, "cut short"),
        ("sounds", b"RIFF", "audio/wav", 422, "no PCM wav"),
        ("sounds", wav(np.zeros(9), 1), "audio/mpeg", 415, "takes application/json, audio/wav"),
        ("sounds", {"inputs": {"sound": [[[0.5]]]}}, "application/json", 422, "not sound"),
        ("rows", {"inputs": {"row": [1, 2, 3]}}, "application/json", 422, "a row of shape"),
        ("fake", npy(np.array(["a"])), "application/x-npy", 422, "not numbers"),
        ("fake", npy(np.full(4, np.nan)), "application/x-npy", 422, "NaN or infinity"),
        ("fake", npy(np.zeros(4))[:-1], "application/x-npy", 422, "announces"),
        ("fake", b"\x80\x04]q\x00.", "application/x-npy", 422, "cannot be read"),
        ("fake", b"{}", "", 415, "no Content-Type"),
        ("fake", b"{}", "text/plain", 415, "takes application/json"),
        ("fakee", {}, "application/json", 404, "did you mean fake?"),
        ("fake/../fake", {}, "application/json", 404, "there is no"),
        ("%2e%2e%2fetc%2fpasswd", {}, "application/json", 404, "there is no"),
    ],
)
def test_bad_input_is_one_line_and_a_status(served, model, body, content_type, status, says):
    got, _, content = served.ask(f"/v1/models/{model}/predict", body, content_type)
    error = content["error"]
    assert (got, says in f"{error['message']}; {error['hint']}") == (status, True), error
    assert "\n" not in error["message"]


@pytest.mark.parametrize("query", ["top=0", "top=-1", "top=x", "top=1&top=2", "top=1001", "top=", "topp=1"])
def test_bad_parameters(served, query):
    body = {"inputs": {"input": [0, 0, 0, 0]}}
    status, _, content = served.ask(f"/v1/models/fake/predict?{query}", body)
    assert (status, content["error"]["kind"]) == (422, "misfit")


def test_unpickled_objects_never_run(served):
    stream = io.BytesIO()
    np.save(stream, np.array([print], dtype=object), allow_pickle=True)
    status, _, content = served.ask("/v1/models/fake/predict", stream.getvalue(), "application/x-npy")
    assert (status, content["error"]["kind"]) == (422, "misfit")


def test_two_bundles_of_one_name_and_files_that_are_none(tmp_path):
    from tests.edgetool.serve import bundles

    (tmp_path / "other").mkdir()
    pair = bundles.fake(tmp_path), bundles.fake(tmp_path / "other")
    code, err = refused(*pair)
    assert (code, "both named 'fake'" in err) == (2, True)
    code, err = refused(pair[0], tmp_path / "nowhere.edge")
    assert (code, "cannot read" in err) == (2, True)
