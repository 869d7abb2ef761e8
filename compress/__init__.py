"""Compression: pruning and quantization of models; knows models and batch iterators, no `Task`."""
