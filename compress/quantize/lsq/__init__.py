"""Learned step size quantization of whole Keras 3 models, recurrent and attention layers included.

`lowering` writes a model down as a graph of operations that integer kernels compute; `fake` trains that graph with
fake quantization; `to_litert` and `to_onnx` write it with the steps that it learned. What is trained is what runs.
"""
