"""Reads the uncompressed multilayer OpenEXR files that Blender writes: channel name → float32 array.

Promises: scan-line files, one part or several, half, float and unsigned channels. Knows nothing of what they mean.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np

_TYPES: dict[int, np.dtype[Any]] = {0: np.dtype("<u4"), 1: np.dtype("<f2"), 2: np.dtype("<f4")}


def _text(data: bytes, at: int) -> tuple[str, int]:
    end = data.index(b"\0", at)
    return data[at:end].decode(), end + 1


def _header(data: bytes, at: int) -> tuple[dict[str, bytes], int]:
    header = {}
    while data[at]:
        name, at = _text(data, at)
        _, at = _text(data, at)
        (size,) = struct.unpack_from("<i", data, at)
        header[name] = data[at + 4 : at + 4 + size]
        at += 4 + size
    return header, at + 1


def _channels(raw: bytes) -> list[tuple[str, np.dtype[Any]]]:
    found, at = [], 0
    while raw[at]:
        name, at = _text(raw, at)
        found.append((name, _TYPES[struct.unpack_from("<i", raw, at)[0]]))
        at += 16
    return found


def read(path: Path) -> dict[str, np.ndarray]:
    """Read all channels of a file.

    Args:
        path: A scan-line OpenEXR file without compression.

    Returns:
        Channel name (with the part's name before it where there are several) → float32 [height, width].

    Raises:
        ValueError: The file is compressed.
    """
    data = path.read_bytes()
    several = bool(struct.unpack_from("<I", data, 4)[0] & 0x1000)
    headers, at = [], 8
    while True:
        header, at = _header(data, at)
        headers.append(header)
        if not several:
            break
        if not data[at]:
            at += 1
            break
    parts = []
    for header in headers:
        if header["compression"][0]:
            raise ValueError(f"{path} is compressed (kind {header['compression'][0]}); expected none")
        x0, y0, x1, y1 = struct.unpack("<4i", header["dataWindow"])
        parts.append((header.get("name", b"").decode(), _channels(header["channels"]), x1 - x0 + 1, y1 - y0 + 1, y0))
        at += 8 * (y1 - y0 + 1)
    out: dict[str, np.ndarray] = {}
    for part, channels, width, height, top in parts:
        prefix = part + "." if part else ""
        for name, _ in channels:
            out[prefix + name] = np.empty((height, width), np.float32)
        for _ in range(height):
            at += 4 if several else 0
            (y, _size) = struct.unpack_from("<2i", data, at)
            at += 8
            for name, dtype in channels:
                out[prefix + name][y - top] = np.frombuffer(data, dtype, width, at)
                at += width * dtype.itemsize
    return out
