import importlib.util
import re
import subprocess
import sys

import pytest

from tests.edgetool.serve.server import REPOSITORY

CONFIGURATION = """
# JSON Schema cannot say that all rows of a picture have one length: ragged ones are refused
[[operations]]
include-path-regex = "pictures/predict"
checks.positive_data_acceptance.expected-statuses = ["2xx", 422]
"""


def test_every_route_is_described_and_every_path_is_there(served):
    from edgetool.serve.app import Routes, make_app
    from edgetool.serve.metrics import Metrics
    from edgetool.serve.settings import Settings

    described = served.ask("/openapi.json")[2]
    predict = {path for path in described["paths"] if path.endswith("/predict")}
    assert predict == {model["path"] for model in served.ask("/v1/models")[2]["models"]}
    app = make_app([], Settings(), None, Metrics())
    routed = {route.path for route in app.routes if getattr(route.endpoint, "__self__", None).__class__ is Routes}
    assert routed - {"/v1/models/{name}/predict"} == set(described["paths"]) - predict
    assert described["security"] == [{"bearer": []}, {"basic": []}]
    assert described["paths"]["/health"]["get"]["security"] == []
    assert "security" not in app.openapi()  # none is asked for, so none is described


def test_inputs_are_described_by_shape_and_range(served):
    paths = served.ask("/openapi.json")[2]["paths"]

    def inputs(name):
        content = paths[f"/v1/models/{name}/predict"]["post"]["requestBody"]["content"]
        return content["application/json"]["schema"]["properties"]["inputs"]["properties"], set(content)

    (left, right), kinds = inputs("two")[0].values(), inputs("two")[1]
    assert (left["minItems"], left["maxItems"], left["items"]["type"]) == (2, 2, "number")
    assert right["items"] == {"type": "integer", "minimum": -(2**31), "maximum": 2**31 - 1}
    assert kinds == {"application/json"}
    assert inputs("sounds")[0]["sound"]["items"] == {"type": "number", "minimum": -1, "maximum": 1}
    assert inputs("pictures")[1] == {"application/json", "image/*", "application/x-npy"}


@pytest.mark.skipif(importlib.util.find_spec("schemathesis") is None, reason="schemathesis is not installed")
def test_schemathesis_finds_no_difference_from_what_is_described(served, tmp_path):
    (tmp_path / "schemathesis.toml").write_text(CONFIGURATION)
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(tmp_path / "schemathesis.toml"), "run"),
        f"http://{served.host}:{served.port}/openapi.json",
        *("-H", f"Authorization: Bearer {served.token}", "--max-examples", "3", "--phases", "coverage,fuzzing"),
        *("--exclude-path-regex", "rows|sounds|my", "--seed", "1", "--no-color"),
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(re.search(r"(\d+) generated", done.stdout)[1]) > 100
    assert str(REPOSITORY) not in done.stdout
