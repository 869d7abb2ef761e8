"""Keras 3 and tf_keras, both ways: one graph of layers rebuilt in the other API, its weights copied, its outputs held
against the original's.
"""
