"""Write some states and what the teacher does there: ``python -m examples.cartpole.states``."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from examples.cartpole.train import LIMIT, teacher


def main() -> None:
    """Draw eight states of half the training range; label 0 pushes left, 1 right."""
    inputs = np.random.default_rng(5).uniform(-LIMIT / 2, LIMIT / 2, (8, 4)).round(3)
    np.savez(Path(__file__).parent / "states.npz", inputs=inputs, labels=teacher(inputs).argmax(axis=1))


if __name__ == "__main__":
    main()
