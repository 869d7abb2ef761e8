"""Model files stored small and given back bit for bit: sparse forms, codebooks, entropy coding, LZMA for the rest."""

from edge.packing.packed_file import pack, unpack

__all__ = ["pack", "unpack"]
