"""Labelling on Ray Data: one machine or a cluster, the same bytes out.

Promises: shards come back in their order; a worker that is killed is started again by Ray and its shard labelled anew.
Needs ``pip install 'proxqa_ros[scale]'``. Never in one process with rclpy: `ray.init` takes SIGTERM over.

Source: Ray Data's `map_batches` with a class, https://docs.ray.io (data API).
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from proxqa_core.errors import ProxqaError, reason_of
from proxqa_training.proximity110k.build import LabelAll, Row, columns
from proxqa_training.proximity110k.labelling import Labeller

SHARDS_PER_WORKER = 32
"""Shards of each worker that are with Ray together: what the driver holds; models are loaded once for them."""


def ray_pool(workers: int, address: str | None = None, gpus_per_worker: float = 0.0) -> LabelAll:
    """Labelling by Ray actors.

    Args:
        workers: Actors, each with a source of depth of its own.
        address: Of a cluster (``auto`` = the one of this machine's environment); None = a Ray of our own, ended after.
        gpus_per_worker: GPUs of each actor, also a fraction.

    Raises:
        ProxqaError: Ray is not installed, the cluster is not there, or an actor cannot label.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray would report its use to its makers
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise ProxqaError("labelling on Ray needs ray[data]; pip install 'proxqa_ros[scale]'") from error

    def label_all(chunks: Iterator[list[Row]], make_labeller: Callable[[], Labeller]) -> Iterator[list[str]]:
        ours = not ray.is_initialized()
        if ours:
            _start(ray, workers, address)
        try:
            context = ray.data.DataContext.get_current()
            context.execution_options.preserve_order = True  # off by default
            context.enable_progress_bars = False
            for name in ("ray", "ray.data"):  # their handlers are their own
                logging.getLogger(name).setLevel(logging.CRITICAL)
            while group := list(islice(chunks, SHARDS_PER_WORKER * workers)):
                yield from _label_group(ray, group, make_labeller, workers, gpus_per_worker)
        except ray.exceptions.RayError as error:  # many lines of the worker's, the last of which says what it is
            why = (str(error).strip() or type(error).__name__).splitlines()[-1].strip()[:200]
            raise ProxqaError(
                f"a worker on Ray ended: {why}; expected this package in the same version on every machine, and "
                "images, maps and models under the same paths"
            ) from error
        finally:
            if ours:
                ray.shutdown()

    return label_all


def _start(ray: Any, workers: int, address: str | None) -> None:
    """Connect to a cluster, or start a Ray of this process alone."""
    if address is not None:
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise ProxqaError(f"no Ray cluster at {address!r}: {reason_of(error)[:150]}") from error
        return
    # workers are to import what this process does, also from a checkout
    path = os.pathsep.join(p for p in (os.getcwd(), *sys.path) if p)
    ray.init(
        num_cpus=workers,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        runtime_env={"env_vars": {"PYTHONPATH": path}},
    )


def _label_group(
    ray: Any, group: list[list[Row]], make_labeller: Callable[[], Labeller], workers: int, gpus: float
) -> Iterator[list[str]]:
    """The lines of some shards, a shard a row."""
    rows = [{"number": i, "chunk": chunk} for i, chunk in enumerate(group)]
    data = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
        ShardLabeller,
        fn_constructor_args=(make_labeller,),
        batch_size=1,
        batch_format="numpy",
        compute=ray.data.ActorPoolStrategy(size=min(workers, len(rows))),
        num_gpus=gpus or None,
        num_cpus=None if gpus else 1,
    )
    for expected, row in enumerate(data.iter_rows()):
        if row["problem"]:
            raise ProxqaError(str(row["problem"]))
        if row["number"] != expected:
            raise ProxqaError(f"Ray returned shard {row['number']} in place of {expected}; expected them in order")
        yield [str(line) for line in row["lines"]]


class ShardLabeller:
    """What an actor runs: whole shards through one `Labeller`."""

    def __init__(self, make_labeller: Callable[[], Labeller]) -> None:
        self._labeller: Labeller | None = None
        self._problem = ""
        try:
            self._labeller = make_labeller()
        except ProxqaError as error:  # else Ray would start the actor again and again
            self._problem = str(error)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        """A batch of shards in, their numbers and lines out, or the problem that there are none of."""
        numbers = [int(n) for n in batch["number"]]
        if self._labeller is None:
            return {"number": numbers, "lines": [[] for _ in numbers], "problem": [self._problem for _ in numbers]}
        lines = [self._labeller(columns([dict(row) for row in chunk]))["lines"] for chunk in batch["chunk"]]
        return {"number": numbers, "lines": lines, "problem": ["" for _ in numbers]}
