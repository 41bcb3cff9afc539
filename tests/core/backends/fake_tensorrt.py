"""TensorRT's Python interface, as far as it is used, on the CPU: an engine is an ONNX file, run by ONNX Runtime.

Tensors are read and written at the addresses that were set, as a GPU's would be. What the real library's bindings call
their things is compared with the real bindings in `test_tensorrt.py`.
"""

from __future__ import annotations

import ctypes
import enum
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

__version__ = "11.4.0"
HEADER = b"fake-engine:"


class NetworkDefinitionCreationFlag(enum.IntEnum):
    STRONGLY_TYPED = 0


class TensorIOMode(enum.Enum):
    INPUT, OUTPUT = 0, 1


class DataType(enum.Enum):
    FLOAT, HALF, BF16 = 0, 1, 2


class ILogger:
    class Severity(enum.Enum):
        INTERNAL_ERROR, ERROR, WARNING = 0, 1, 2

    def log(self, severity: Severity, message: str) -> None: ...


class _Named:
    def __init__(self, name: str):
        self.name = name


class _Network:
    path: Path | None = None

    def get_input(self, index: int) -> _Named:
        return _Named("pixels")


class _Profile:
    def set_shape(self, name: str, *shapes: tuple[int, ...]) -> None:
        self.most = shapes[-1][0]


class _Config:
    most = 0

    def add_optimization_profile(self, profile: _Profile) -> None:
        self.most = profile.most


class Builder:
    """`broken`: engines that it makes compute something else."""

    broken = False
    built = 0

    def __init__(self, log: ILogger):
        self._log = log

    def create_network(self, flags: int) -> _Network:
        assert flags == 1 << int(NetworkDefinitionCreationFlag.STRONGLY_TYPED)
        return _Network()

    def create_builder_config(self) -> _Config:
        return _Config()

    def create_optimization_profile(self) -> _Profile:
        return _Profile()

    def build_serialized_network(self, network: _Network, config: _Config) -> bytes | None:
        type(self).built += 1
        if not config.most or network.path is None:
            self._log.log(ILogger.Severity.ERROR, "no profile,\nor nothing parsed")
            return None
        model = onnx.load(network.path)
        if self.broken:
            for tensor in model.graph.initializer:
                if tensor.dims:
                    values = onnx.numpy_helper.to_array(tensor)
                    if values.dtype == np.float16:
                        tensor.CopyFrom(onnx.numpy_helper.from_array(values[..., ::-1].copy(), tensor.name))
        return HEADER + bytes([config.most]) + model.SerializeToString()


class OnnxParser:
    def __init__(self, network: _Network, log: ILogger):
        self._network, self.num_errors = network, 0

    def parse_from_file(self, path: str) -> bool:
        self._network.path = Path(path)
        return True


class Runtime:
    """`blind`: as where no GPU is to be seen."""

    blind = False

    def __init__(self, log: ILogger):
        self._log = log

    def deserialize_cuda_engine(self, engine: bytes) -> _Engine | None:
        if self.blind or not engine.startswith(HEADER):
            self._log.log(ILogger.Severity.ERROR, "CUDA driver version is insufficient")
            return None
        return _Engine(engine)


class _Engine:
    num_io_tensors = 2

    def __init__(self, engine: bytes):
        self.most = engine[len(HEADER)]
        self.session = onnxruntime.InferenceSession(engine[len(HEADER) + 1 :])

    def get_tensor_name(self, index: int) -> str:
        return ("pixels", "features")[index]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.INPUT if name == "pixels" else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> DataType:
        return DataType.HALF

    def create_execution_context(self) -> _Context:
        return _Context(self)


class _Context:
    def __init__(self, engine: _Engine):
        self._engine, self._at = engine, {}  # type: ignore[var-annotated]

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self._shape = shape
        return 1 <= shape[0] <= self._engine.most

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        batch = self._shape[0]
        return (batch, *self._engine.session.get_outputs()[0].shape[1:])

    def set_tensor_address(self, name: str, address: int) -> None:
        self._at[name] = address

    def execute_async_v3(self, stream: int) -> bool:
        (features,) = self._engine.session.run(None, {"pixels": self._array("pixels", self._shape)})
        self._array("features", self.get_tensor_shape("features"))[:] = features
        return True

    def _array(self, name: str, shape: tuple[int, ...]) -> Any:
        size = int(np.prod(shape))
        memory = (ctypes.c_uint16 * size).from_address(self._at[name])
        return np.ctypeslib.as_array(memory).view(np.float16).reshape(shape)
