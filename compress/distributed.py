"""The devices that one fit runs on: one, several GPUs of this host, a TPU, or one device on each of several hosts.

Gradients are added over the devices in every step, each weighted by its share of the batch's rows, so that a fit is
that of one device up to the order of additions; batch normalization alone sees its device's rows only.

Several hosts: each has the model in plain variables and an equal optimizer; what crosses the network is the sum of
gradients, by the collectives of MultiWorkerMirroredStrategy. Keras 3's `fit`, and its variables, fail under that
strategy's scope (keras#20585).
"""

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from edge.errors import EnvironmentFailed

# (inputs, labels, targets, share of the batch's rows or None for all) -> loss
Step = Callable[..., Any]


class Devices(Protocol):
    """Where a fit runs."""

    def placed(self, model: Any) -> Any:
        """The model to train there, of equal weights everywhere: itself, or a copy."""
        ...

    def scope(self) -> contextlib.AbstractContextManager[Any]:
        """In which the optimizer and all else that has variables is made."""
        ...

    def summed(self, tensors: Sequence[Any]) -> Sequence[Any]:
        """Inside a step: the sum of each over all devices, where the optimizer does not add them itself."""
        ...

    def settle(self, variables: Sequence[Any]) -> None:
        """At the end of a step: make what is no weight, such as moving averages, the same everywhere."""
        ...

    def compiled(self, step: Step) -> Callable[[list[Any], Any, list[Any]], float]:
        """A step as a function of one batch's arrays, [n, ...] each, that gives the loss over the whole batch."""
        ...


class OneDevice:
    """The GPU where there is one, else the CPU."""

    def placed(self, model: Any) -> Any:
        return model

    def scope(self) -> contextlib.AbstractContextManager[Any]:
        return contextlib.nullcontext()

    def summed(self, tensors: Sequence[Any]) -> Sequence[Any]:
        return tensors

    def settle(self, variables: Sequence[Any]) -> None:
        pass

    def compiled(self, step: Step) -> Callable[[list[Any], Any, list[Any]], float]:
        import tensorflow as tf

        made = tf.function(step, reduce_retracing=True)

        def run(inputs: list[Any], labels: Any, targets: list[Any]) -> float:
            tensors = [[tf.convert_to_tensor(array) for array in part] for part in (inputs, targets)]
            return float(made(tensors[0], tf.convert_to_tensor(labels), tensors[1], None))

        return run


class Replicas:
    """Several devices of this process: `strategy` is a MirroredStrategy (GPUs) or a TPUStrategy, which is untested.

    Each trains a mirrored copy; Keras' optimizer adds the gradients.
    """

    def __init__(self, strategy: Any) -> None:
        self._strategy = strategy

    def placed(self, model: Any) -> Any:
        import keras

        with self._strategy.scope():
            copy = keras.models.clone_model(model)
        copy.set_weights(model.get_weights())
        return copy

    def scope(self) -> contextlib.AbstractContextManager[Any]:
        scope: contextlib.AbstractContextManager[Any] = self._strategy.scope()
        return scope

    def summed(self, tensors: Sequence[Any]) -> Sequence[Any]:
        return tensors

    def settle(self, variables: Sequence[Any]) -> None:
        pass

    def compiled(self, step: Step) -> Callable[[list[Any], Any, list[Any]], float]:
        import tensorflow as tf

        strategy = self._strategy

        @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator]  # tensorflow is untyped
        def everywhere(*parts: Any) -> Any:
            return strategy.reduce(tf.distribute.ReduceOp.SUM, strategy.run(step, args=parts), axis=None)

        def run(inputs: list[Any], labels: Any, targets: list[Any]) -> float:
            n, replicas = len(labels), strategy.num_replicas_in_sync

            def spread(array: Any) -> Any:
                parts = np.array_split(np.asarray(array), replicas)
                return strategy.experimental_distribute_values_from_function(
                    lambda context: tf.convert_to_tensor(parts[context.replica_id_in_sync_group])
                )

            shares = np.array([len(part) / n for part in np.array_split(np.arange(n), replicas)], np.float32)
            share = strategy.experimental_distribute_values_from_function(
                lambda context: tf.convert_to_tensor(shares[context.replica_id_in_sync_group])
            )
            arrays = [spread(array) for array in inputs], spread(labels), [spread(array) for array in targets]
            return float(everywhere(*arrays, share))

        return run


class Hosts:
    """One device on each of the hosts that TF_CONFIG lists; all of them run the same program on the same data.

    Made before anything else of TensorFlow is used. Every host ends with the same weights.

    Raises EnvironmentFailed: TF_CONFIG lists fewer than two, or a host has several devices, or another cannot be
    reached.
    """

    def __init__(self) -> None:
        import tensorflow as tf

        options = tf.distribute.experimental.CommunicationOptions(
            implementation=tf.distribute.experimental.CommunicationImplementation.AUTO
        )
        try:
            self._strategy = tf.distribute.MultiWorkerMirroredStrategy(communication_options=options)
        except (RuntimeError, tf.errors.OpError) as error:
            raise EnvironmentFailed(
                f"the hosts of TF_CONFIG cannot work together: {str(error).splitlines()[0][:200]}",
                "start the same program on each, and make Hosts() before anything else of TensorFlow is used",
            ) from error
        resolver = self._strategy.cluster_resolver
        self.number = len(resolver.cluster_spec().as_dict().get("worker", ()))
        self.index: int = resolver.task_id or 0
        if self.number < 2:
            raise EnvironmentFailed("TF_CONFIG lists no second host", "see docs/training.md")
        if self._strategy.num_replicas_in_sync != self.number:
            raise EnvironmentFailed(
                f"{self._strategy.num_replicas_in_sync} devices on {self.number} hosts: a host takes part with one",
                "set CUDA_VISIBLE_DEVICES to one GPU",
            )

    def placed(self, model: Any) -> Any:
        import tensorflow as tf

        values = [np.asarray(weights) for weights in model.get_weights()]
        sent = [index for index, value in enumerate(values) if value.dtype.kind == "f"]
        # the first host's weights are everybody's
        summed = tf.function(self.summed)([tf.constant(values[k] if self.index == 0 else 0 * values[k]) for k in sent])
        for index, value in zip(sent, summed, strict=True):
            values[index] = value.numpy()
        model.set_weights(values)
        return model

    def scope(self) -> contextlib.AbstractContextManager[Any]:
        return contextlib.nullcontext()

    def summed(self, tensors: Sequence[Any]) -> Sequence[Any]:
        import tensorflow as tf

        def add(values: list[Any]) -> Any:
            # tensors from outside have no device for the collective to run on
            placed = [tf.identity(tf.convert_to_tensor(value)) for value in values]
            return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, placed)

        known = [index for index, tensor in enumerate(tensors) if tensor is not None]  # unused weights have no gradient
        found = self._strategy.run(add, args=([tensors[index] for index in known],))
        summed = [None] * len(tensors)
        for index, value in zip(known, found, strict=True):
            summed[index] = value
        return summed

    def settle(self, variables: Sequence[Any]) -> None:
        moving = [variable for variable in variables if "float" in str(variable.dtype)]
        means = self.summed([variable / self.number for variable in moving]) if moving else ()
        for variable, mean in zip(moving, means, strict=True):
            variable.assign(mean)

    def compiled(self, step: Step) -> Callable[[list[Any], Any, list[Any]], float]:
        import tensorflow as tf

        made = tf.function(step, reduce_retracing=True)

        def run(inputs: list[Any], labels: Any, targets: list[Any]) -> float:
            rows = np.array_split(np.arange(len(labels)), self.number)[self.index]
            part = [[tf.convert_to_tensor(np.asarray(array)[rows]) for array in group] for group in (inputs, targets)]
            share = tf.constant(len(rows) / len(labels), tf.float32)
            return float(made(part[0], tf.convert_to_tensor(np.asarray(labels)[rows]), part[1], share))

        return run


def devices_here() -> Devices:
    """All devices that this process sees: a TPU where TPU_NAME names one, several GPUs, else one device."""
    import tensorflow as tf

    if os.environ.get("TPU_NAME"):
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver()
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
        return Replicas(tf.distribute.TPUStrategy(resolver))
    if len(tf.config.list_physical_devices("GPU")) > 1:
        return Replicas(tf.distribute.MirroredStrategy())
    return OneDevice()


def half_precision() -> str | None:
    """The Keras policy that the visible GPUs are fast in: bfloat16 since Ampere, else float16; None without a GPU."""
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return None
    capabilities = [tf.config.experimental.get_device_details(gpu).get("compute_capability") for gpu in gpus]
    return "mixed_bfloat16" if all(one is not None and one >= (8, 0) for one in capabilities) else "mixed_float16"


@contextlib.contextmanager
def computing_in(policy: str | None, model: Any) -> Iterator[None]:
    """The layers of a built Keras model compute by this policy meanwhile, those that make its outputs in float32.

    Weights stay float32 (Micikevicius et al., "Mixed precision training", ICLR 2018). None changes nothing.
    """
    import keras

    if policy is None:
        yield
        return
    last = {tensor._keras_history.operation.name for tensor in model.outputs}  # noqa: SLF001 - Keras has no public way to ask
    layers = [layer for layer in model._flatten_layers() if layer is not model and layer.name not in last]  # noqa: SLF001 - as above
    before = [layer.dtype_policy for layer in layers]
    try:
        for layer in layers:
            layer.dtype_policy = keras.dtype_policies.get(policy)
        yield
    finally:
        for layer, was in zip(layers, before, strict=True):
            layer.dtype_policy = was
