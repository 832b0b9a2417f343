"""What the four training scripts share."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from examples.export import Layers, Network

Doubles = NDArray[np.float64]
Loss = Callable[[Tensor, Tensor], Tensor]


def fit(
    inputs: Doubles,
    targets: Doubles,
    hidden: Sequence[int],
    *,
    mean: Sequence[float],
    scale: Sequence[float],
    loss: Loss = nn.functional.mse_loss,
    epochs: int = 200,
    batch: int = 256,
    rate: float = 4e-3,
    seed: int = 0,
) -> Network:
    """Fit a ReLU network with Adam under a one-cycle learning rate.

    Parameters
    ----------
    inputs, targets : (n, inputs), (n, outputs)
        Samples of the teacher, inputs in physical units.
    hidden : sequence of int
        Widths of the hidden layers.
    mean, scale : sequences of float
        The network sees ``(inputs - mean) / scale``.
    loss : callable, optional
        Of a batch of predictions and its targets.
    epochs, batch, rate, seed
        Passes over the data, rows in a step, peak learning rate, seed of weights and order.
    """
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    offset, factor = np.array(mean, np.float32), np.array(scale, np.float32)
    x = torch.from_numpy((inputs.astype(np.float32) - offset) / factor)
    y = torch.from_numpy(targets.astype(np.float32))
    sizes = [x.shape[1], *hidden, y.shape[1]]
    linear = [nn.Linear(m, n) for m, n in pairwise(sizes)]
    model = nn.Sequential(*(module for layer in linear for module in (layer, nn.ReLU())))[:-1]

    optimiser = torch.optim.Adam(model.parameters(), lr=rate)
    steps = epochs * (len(x) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps)
    for _ in range(epochs):
        order = torch.randperm(len(x))
        for rows in order[: len(x) // batch * batch].view(-1, batch):
            optimiser.zero_grad(set_to_none=True)
            loss(model(x[rows]), y[rows]).backward()
            optimiser.step()
            schedule.step()

    layers: Layers = [(u.weight.detach().numpy().copy(), u.bias.detach().numpy().copy()) for u in linear]
    return Network(layers, offset, factor)


def destination(script: str) -> Path:
    """Where the script is to write: ``--output``, or ``controller.onnx`` beside it."""
    parser = argparse.ArgumentParser(description=f"Train the {Path(script).parent.name} controller.")
    parser.add_argument("--output", type=Path, default=Path(script).with_name("controller.onnx"))
    output: Path = parser.parse_args().output
    return output
