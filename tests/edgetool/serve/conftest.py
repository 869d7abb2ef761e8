import pytest

from tests.edgetool.serve import bundles
from tests.edgetool.serve.server import Server


@pytest.fixture(scope="session")
def served(tmp_path_factory):
    """One server with all kinds of models."""
    folder = tmp_path_factory.mktemp("bundles")
    paths = [
        bundles.fake(folder),
        bundles.pictures(folder, "tiny_int8.tflite", "pictures"),
        bundles.pictures(folder, "tiny.onnx", "my pictures"),
        bundles.sounds(folder),
        bundles.rows(folder),
        bundles.two(folder),
    ]
    with Server(*paths, options=("--max-body", "100kB", "--timeout", "2s")) as server:
        yield server
