"""Numpy arrays on the wire: a description of the dtype, a shape, and the bytes.

A dtype is written as msgpack: a scalar as its text (``<u4``), a structure as names, dtypes, offsets
and size, a sub-array as base and shape. No objects, no pickles, nothing is evaluated.
"""

from __future__ import annotations

import math
import re
from functools import lru_cache
from typing import Any

import msgspec
import numpy as np

MOST_DEEP, MOST_FIELDS, MOST_BYTES = 8, 256, 1 << 29
_SCALAR = re.compile(r"[<>|](?:[biu][1248]|f[248]|[SV]\d{1,9})")


class WireArray(msgspec.Struct, array_like=True, frozen=True):
    """An array: ``dtype`` as of :func:`describe`, the shape, and the bytes in C order."""

    dtype: bytes
    shape: tuple[int, ...]
    data: bytes


@lru_cache(maxsize=512)
def describe(dtype: np.dtype[Any]) -> bytes:
    """The dtype as bytes."""
    return msgspec.msgpack.encode(_plain(dtype))


def _plain(dtype: np.dtype[Any]) -> Any:
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        return [_plain(base), list(shape)]
    if dtype.fields is None:
        return dtype.str
    names = list(dtype.names or ())
    found = [dtype.fields[name] for name in names]
    return [names, [_plain(each[0]) for each in found], [each[1] for each in found], dtype.itemsize]


@lru_cache(maxsize=512)
def described(data: bytes) -> np.dtype[Any]:
    """The dtype that :func:`describe` wrote.

    Raises:
        ValueError: it is none, or too deep, wide or large.
    """
    try:
        found = _dtype(msgspec.msgpack.decode(data), MOST_DEEP)
    except (TypeError, ValueError, OverflowError, msgspec.DecodeError) as error:
        raise ValueError(f"not a dtype: {error}") from None
    if found.itemsize > MOST_BYTES:
        raise ValueError(f"not a dtype: {found.itemsize} bytes are too many")
    return found


def _dtype(plain: Any, deep: int) -> np.dtype[Any]:
    if isinstance(plain, str):
        if not _SCALAR.fullmatch(plain):
            raise ValueError(f"{plain[:20]!r} is no scalar")
        return np.dtype(plain)
    if not isinstance(plain, list) or not deep:
        raise ValueError("neither a scalar nor a structure, or too deep")
    if len(plain) == 2:
        return _sub_array(plain[0], plain[1], deep)
    names, kinds, offsets, size = plain
    return _structure(names, kinds, offsets, size, deep)


def _sub_array(base: Any, shape: Any, deep: int) -> np.dtype[Any]:
    found = _dtype(base, deep - 1)
    if not isinstance(shape, list) or not all(_is_size(each) for each in shape):
        raise ValueError("a shape is a list of sizes")
    if not 1 <= len(shape) <= MOST_DEEP or found.itemsize * math.prod(shape) > MOST_BYTES:
        raise ValueError("a sub-array is too deep or too large")
    return np.dtype((found, tuple(shape)))


def _structure(names: Any, kinds: Any, offsets: Any, size: Any, deep: int) -> np.dtype[Any]:
    if not (isinstance(names, list) and isinstance(kinds, list) and isinstance(offsets, list)):
        raise TypeError("a structure is three lists and a size")
    if not len(names) == len(kinds) == len(offsets) <= MOST_FIELDS:
        raise ValueError("a structure has a name, a dtype and an offset for each field")
    if not all(isinstance(name, str) and len(name) < 64 for name in names):
        raise ValueError("a field has a short name")
    if not all(_is_size(each) for each in (*offsets, size)):
        raise ValueError("offsets and sizes are small numbers")
    formats = [_dtype(kind, deep - 1) for kind in kinds]
    return np.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": size})


def _is_size(number: Any) -> bool:
    return type(number) is int and 0 <= number <= MOST_BYTES


def packed(array: np.ndarray[Any, Any]) -> WireArray:
    """An array for the wire."""
    return WireArray(describe(array.dtype), array.shape, array.tobytes())


def unpacked(wire: WireArray) -> np.ndarray[Any, Any]:
    """The array, owned by the caller and writable.

    Raises:
        ValueError: dtype, shape and bytes do not fit each other.
    """
    dtype, shape = described(wire.dtype), wire.shape
    if len(shape) > 2 or not all(_is_size(each) for each in shape):
        raise ValueError("an array has at most two dimensions")
    if dtype.itemsize * math.prod(shape) != len(wire.data):
        raise ValueError(f"{len(wire.data)} bytes for {shape} of {dtype.itemsize}")
    if not dtype.itemsize:
        raise ValueError("elements without bytes")
    return np.frombuffer(bytearray(wire.data), dtype).reshape(shape)
