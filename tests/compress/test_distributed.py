"""A fit on several devices ends as on one: two hosts on the loopback, two replicas in one process."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from compress.distributed import Hosts, OneDevice, computing_in
from compress.train_step import train_step
from compress.training import FineTune, loss_function, output_kind
from edge.errors import EnvironmentFailed
from tests.compress.test_training import blobs, dense
from tests.conftest import REPOSITORY


def test_two_hosts_end_where_one_process_does() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.distributed", "--slice"],
        cwd=REPOSITORY, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    rows = {line.split()[2]: line.split()[3] for line in done.stdout.splitlines()[1:]}
    for fit in ("fashion_mnist.trained", "fashion_mnist.random"):
        assert float(rows[f"{fit}.weights_apart_after_3_steps"]) <= 1e-4
        assert float(rows[f"{fit}.hosts_apart"]) == 0
        assert float(rows[f"{fit}.weights_moved"]) > 1e-4


MIRRORED = """
import sys
import numpy as np
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from compress.distributed import OneDevice, Replicas
from compress.prune.magnitude import magnitude_pruner
from compress.prune.pruner import Schedule
from compress.training import FineTune, fine_tune
from tests.compress.test_training import blobs, dense, in_batches, silent

rows, labels = blobs(99)  # batches of 33 rows: the shares are not equal
found = []
for devices in (OneDevice(), Replicas(tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]))):
    model = dense(3, "softmax")
    train = in_batches({"rows": rows}, labels, 33)
    settings = FineTune(epochs=2, optimizer=sys.argv[1])
    summary = fine_tune(model, train, 3, "crossentropy", TRANSFORMS, settings, silent, devices=devices)
    found.append((model.get_weights(), summary.epoch_losses))
(one, losses), (two, again) = found
assert np.allclose(losses, again, atol=1e-5), (losses, again)
assert all(np.allclose(a, b, atol=1e-5) for a, b in zip(one, two, strict=True))
print("equal", max(float(np.abs(a - b).max()) for a, b in zip(one, two)))
"""


def test_two_replicas_end_where_one_device_does() -> None:
    program = MIRRORED.replace("TRANSFORMS", "[magnitude_pruner(Schedule(0.5, frequency_steps=1))]")
    done = subprocess.run(
        [sys.executable, "-c", program, "adam"], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert done.stdout.startswith("equal"), done.stdout + done.stderr


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_half_precision_trains_float32_weights_and_leaves_the_layers_as_they_were(policy: str) -> None:
    rows, labels = blobs()
    model = dense(3, "softmax")
    before = [layer.dtype_policy.name for layer in model.layers]
    with computing_in(policy, model):
        assert [layer.dtype_policy.name for layer in model.layers] == [policy, policy, "float32"]
        assert model.layers[1](rows).dtype == policy.removeprefix("mixed_")
    kind = output_kind(model)
    terms = loss_function("crossentropy", kind), 1.0, ()
    run, _ = train_step(model, kind, terms, FineTune(learning_rate=0.03), 30, OneDevice(), policy)
    losses = [run(({"rows": rows}, labels)) for _ in range(30)]
    assert losses[-1] < 0.3 * losses[0]
    assert [layer.dtype_policy.name for layer in model.layers] == before
    assert all(weights.dtype == np.float32 for weights in model.get_weights())


def test_hosts_have_to_be_listed_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import tensorflow as tf

    tf.constant(1.0)
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(EnvironmentFailed):
        Hosts()
