"""One traced function per model: batch 1, inputs and outputs by the names of the Keras model.

Both converters start here, so that a Keras 3 model, a tf_keras model and a SavedModel take the same way.
"""

from typing import Any

from convert.load import keras_specs
from edge.errors import BadModel
from edge.tensors import TensorSpec


def serving(model: Any) -> tuple[Any, tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """A `tf.Module` with a traced function `serve`, and the specs of its inputs and outputs with batch 1.

    The module owns the variables one by one: TensorFlow does not find those of a Keras 3 model by itself, and its
    converter then drops the weights without a word.

    Raises:
        BadModel: an input has an open dimension behind the batch, or a type that no device runtime takes.

    """
    import tensorflow as tf

    inputs, outputs = keras_specs(model)
    fixed = tuple(_fixed(spec) for spec in inputs)

    def call(*tensors: Any) -> dict[str, Any]:
        result = model(as_called(model, list(tensors)), training=False)
        flat = tf.nest.flatten(result)
        # tf.identity gives every output a tensor of its own, even where a model returns an input or one tensor twice.
        return {spec.name: tf.identity(tensor, spec.name) for spec, tensor in zip(outputs, flat, strict=True)}

    module = tf.Module()
    module.model = model
    module.weights = [getattr(variable, "value", variable) for variable in model.variables]
    signature = [tf.TensorSpec(spec.shape, spec.dtype, name=spec.name) for spec in fixed]
    module.serve = tf.function(call, input_signature=signature, autograph=False)
    return module, fixed, tuple(TensorSpec(spec.name, (1, *spec.shape[1:]), spec.dtype) for spec in outputs)


def as_called(model: Any, tensors: list[Any]) -> Any:
    """The tensors in the structure that the model was built with: one tensor, a list or a dictionary."""
    structure = getattr(model, "_inputs_struct", None)
    if structure is None:
        structure = getattr(model, "_nested_inputs", None)
    if isinstance(structure, dict):
        return dict(zip(sorted(structure), tensors, strict=True))
    return tensors if isinstance(structure, list | tuple) or len(tensors) > 1 else tensors[0]


def _fixed(spec: TensorSpec) -> TensorSpec:
    if spec.dtype == "string":
        raise BadModel(f"input {spec.name!r} takes strings, which no device runtime does", "move the text step out")
    shape = tuple(1 if axis == 0 and size is None else size for axis, size in enumerate(spec.shape))
    if None in shape:
        raise BadModel(
            f"input {spec.name!r} has shape {list(spec.shape)}: dimension {shape.index(None)} is not fixed",
            f"build the model with dimension {shape.index(None)} fixed; only the batch may stay open",
        )
    return TensorSpec(spec.name, shape, spec.dtype)
