"""PyTorch modules against torch itself, within the rounding bound that the lowered network implies."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from optverify.errors import InputError, UnsupportedLayer
from optverify.io.pytorch import read_pytorch
from optverify.io.pytorch_functions import FUNCTIONS
from optverify.network import Affine, Network
from tests.io.rounding import assert_within


class Apply(nn.Module):
    """A module that applies a function."""

    def __init__(self, body: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Any:
        """Apply the function."""
        return self.body(x)


class Held(nn.Module):
    """A module that applies a function of its input and a tensor that it holds."""

    def __init__(self, body: Callable[[Tensor, Tensor], Tensor], *shape: int) -> None:
        super().__init__()
        self.body = body
        self.register_buffer("held", torch.randn(shape))

    def forward(self, x: Tensor) -> Tensor:
        """Apply the function."""
        return self.body(x, self.held)


class Residual(nn.Module):
    """A block with a skip connection, as in residual networks."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU(inplace=True))
        self.second = nn.Sequential(nn.Conv2d(4, 2, 3, padding=1), nn.BatchNorm2d(2))
        self.last = nn.Linear(2, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Return three scores."""
        y = self.second(self.first(x))
        y += x
        y = F.adaptive_avg_pool2d(F.relu(y), 1)
        return self.last(y.flatten(1))


def overwritten(x: Tensor) -> Tensor:
    """Write into a tensor in place, through views of it."""
    y = x * 2
    y[:, 0] += 1.5
    y[:, 1:3] = x[:, 2:]
    y[:, 3].fill_(0.3)
    y.relu_()
    return y - 1


def randomise(module: nn.Module) -> nn.Module:
    """Give running statistics and affine parameters values that matter."""
    for part in module.modules():
        if isinstance(part, (nn.BatchNorm1d, nn.BatchNorm2d)):
            part.running_mean = torch.randn_like(part.running_mean)
            part.running_var = torch.rand_like(part.running_var) + 0.1
            if part.affine:
                nn.init.normal_(part.weight)
                nn.init.normal_(part.bias)
    return module.eval()


VECTOR, SIGNAL, IMAGE = (4,), (3, 11), (2, 6, 5)
RAMP = torch.linspace(-1, 1, 4)

MODULES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "linear": (lambda: nn.Linear(4, 3), VECTOR),
    "linear without bias": (lambda: nn.Linear(4, 3, bias=False), VECTOR),
    "linear on rows": (lambda: nn.Linear(4, 3), (2, 4)),
    "perceptron": (lambda: nn.Sequential(nn.Linear(4, 5), nn.ReLU(inplace=True), nn.Linear(5, 2)), VECTOR),
    "conv1d": (lambda: nn.Conv1d(3, 2, 3, stride=2, padding=1, dilation=2), SIGNAL),
    "conv2d": (lambda: nn.Conv2d(2, 4, (3, 2), stride=(1, 2), padding=(2, 1), groups=2), IMAGE),
    "conv2d same": (lambda: nn.Conv2d(2, 3, (2, 3), padding="same", dilation=(1, 2)), IMAGE),
    "conv2d valid": (lambda: nn.Conv2d(2, 3, 2, padding="valid", bias=False), IMAGE),
    "conv3d": (lambda: nn.Conv3d(1, 2, 2), (1, 3, 3, 3)),
    "batch norm 1d": (lambda: nn.BatchNorm1d(4), VECTOR),
    "batch norm 2d": (lambda: nn.BatchNorm2d(2, eps=0.01), IMAGE),
    "batch norm plain": (lambda: nn.BatchNorm2d(2, affine=False), IMAGE),
    "relu": (lambda: nn.ReLU(), VECTOR),
    "relu6": (lambda: nn.ReLU6(), VECTOR),
    "leaky relu": (lambda: nn.LeakyReLU(0.1), VECTOR),
    "prelu": (lambda: nn.PReLU(2, 0.3), IMAGE),
    "prelu shared": (lambda: nn.PReLU(), VECTOR),
    "hardtanh": (lambda: nn.Hardtanh(-0.3, 1.1), VECTOR),
    "hardsigmoid": (lambda: nn.Hardsigmoid(), VECTOR),
    "clamp": (lambda: Apply(lambda x: torch.clamp(x, -0.2, 0.7)), VECTOR),
    "clamp below": (lambda: Apply(lambda x: x.clamp(min=-0.1)), VECTOR),
    "clamp above": (lambda: Apply(lambda x: x.clamp_max(0.4)), VECTOR),
    "clamp by tensors": (lambda: Held(lambda x, held: torch.clamp(x, max=held), 4), VECTOR),
    "average pool": (lambda: nn.AvgPool2d(3, stride=2, padding=1), IMAGE),
    "average pool inside": (lambda: nn.AvgPool2d((2, 3), ceil_mode=True, count_include_pad=False, padding=1), IMAGE),
    "average pool ceil": (lambda: nn.AvgPool2d(3, stride=2, padding=1, ceil_mode=True), IMAGE),
    "average pool divisor": (lambda: nn.AvgPool2d(2, divisor_override=3), IMAGE),
    "average pool 1d": (lambda: nn.AvgPool1d(4, 3), SIGNAL),
    "adaptive average pool": (lambda: nn.AdaptiveAvgPool2d((3, 1)), IMAGE),
    "adaptive average pool 1d": (lambda: nn.AdaptiveAvgPool1d(1), SIGNAL),
    "max pool": (lambda: nn.MaxPool2d(2, stride=1, padding=1), IMAGE),
    "max pool ceil": (lambda: nn.MaxPool2d((3, 2), ceil_mode=True, dilation=(1, 2)), IMAGE),
    "max pool 1d": (lambda: nn.MaxPool1d(3, 2), SIGNAL),
    "flatten": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(60, 2)), IMAGE),
    "unflatten": (lambda: nn.Sequential(nn.Unflatten(1, (2, 2)), nn.Linear(2, 2)), VECTOR),
    "flatten a part": (lambda: Apply(lambda x: x.flatten(1, 2) * 0.3), IMAGE),
    "dropout": (lambda: nn.Sequential(nn.Dropout(0.5), nn.Linear(4, 2)), VECTOR),
    "residual": (Residual, IMAGE),
    "overwritten": (lambda: Apply(overwritten), VECTOR),
    "arithmetic": (lambda: Apply(lambda x: (1.5 - x / 0.3) * 0.7 + torch.sub(x, 1.1, alpha=2)), VECTOR),
    "arithmetic with tensors": (
        lambda: Held(lambda x, held: (x - held) / held.abs().clamp(1, 1) + held * x, 4),
        VECTOR,
    ),
    "matmul": (lambda: Held(lambda x, held: x @ held, 4, 3), VECTOR),
    "matmul from the left": (lambda: Held(lambda x, held: held @ x.reshape(4, 1), 3, 4), VECTOR),
    "matmul of stacks": (lambda: Held(lambda x, held: torch.bmm(x.reshape(2, 1, 2), held), 2, 2, 3), VECTOR),
    "addmm": (lambda: Held(lambda x, held: torch.addmm(held[0], x, held.t()), 4, 4), VECTOR),
    "abs": (lambda: Apply(torch.abs), VECTOR),
    "maximum": (lambda: Apply(lambda x: torch.maximum(x, -x.flip(1))), VECTOR),
    "maximum with a tensor": (lambda: Held(lambda x, held: torch.max(held, x), 4), VECTOR),
    "minimum": (lambda: Apply(lambda x: torch.min(x, x.roll(1, 1) if False else x.flip([1]))), VECTOR),
    "minimum with a tensor": (lambda: Held(lambda x, held: torch.minimum(x, held), 4), VECTOR),
    "mean": (lambda: Apply(lambda x: x.mean(dim=(1, 3), keepdim=True)), IMAGE),
    "mean of all": (lambda: Apply(lambda x: x.mean()), SIGNAL),
    "sum": (lambda: Apply(lambda x: x.sum(-1)), SIGNAL),
    "cat and stack": (
        lambda: Apply(lambda x: torch.stack([torch.cat([x, x.relu()], 1), torch.zeros(1, 8)], 1) + 1),
        VECTOR,
    ),
    "split": (lambda: Apply(lambda x: torch.add(*x.split(2, 1))), VECTOR),
    "split by sizes": (lambda: Apply(lambda x: torch.mul(x.split([1, 3], dim=1)[1], 0.3)), VECTOR),
    "chunk": (lambda: Apply(lambda x: torch.sub(*x.chunk(2, 1))), VECTOR),
    "slices": (lambda: Apply(lambda x: x[:, 0, 1:-1:2] + x[:, 1, [0, 2, 4]][..., None, :2].squeeze(1)), (2, 5)),
    "select": (lambda: Apply(lambda x: x.index_select(1, torch.tensor([3, 0])) - x[:, :1]), VECTOR),
    "permute": (lambda: Apply(lambda x: x.permute(0, 3, 1, 2).transpose(1, 2).reshape(1, -1, 2) * 2.1), IMAGE),
    "squeeze": (lambda: Apply(lambda x: x.unsqueeze(1).squeeze() + x.squeeze(0) - x[None].squeeze((0, 1))), VECTOR),
    "expand": (lambda: Apply(lambda x: x.unsqueeze(1).expand(-1, 3, 4) * 0.1), VECTOR),
    "pad": (lambda: Apply(lambda x: F.pad(x, (1, -1, 0, 2), value=0.5).abs()), IMAGE),
    "zero pad": (lambda: nn.Sequential(nn.ZeroPad2d(1), nn.Conv2d(2, 2, 3)), IMAGE),
    "full": (lambda: Apply(lambda x: x + torch.full((4,), 0.3) + torch.ones(4)), VECTOR),
    "unbatched": (lambda: Apply(lambda x: F.max_pool2d(x.squeeze(0), 2)), IMAGE),
    "to the same format": (lambda: Apply(lambda x: x.to(torch.float64).to(torch.float32) * 0.3), VECTOR),
}

MAY_BE_NO_FLOAT = {"to the same format"}


DOUBLE = [(name, torch.float64) for name in MODULES]
SINGLE = [
    (name, torch.float32)
    for name in (
        *("perceptron", "conv2d", "batch norm 2d", "leaky relu", "prelu", "hardsigmoid", "clamp"),
        *("average pool", "residual", "arithmetic", "mean", "to the same format"),
    )
]


@pytest.mark.parametrize(("name", "kind"), DOUBLE + SINGLE)
def test_module_agrees_with_torch(name: str, kind: torch.dtype) -> None:
    """Each layer is what torch computes, up to counted roundings.

    All of them in double precision, which leaves no room for a coefficient that is a little wrong; in
    single precision those where torch converts numbers or may compute differently.
    """
    torch.manual_seed(3)
    make, shape = MODULES[name]
    torch.set_default_dtype(kind)
    try:
        module = randomise(make())
        network = read_pytorch(_with_parameter(module), shape)
        for _ in range(4):
            x = 2 * torch.randn(1, *shape)
            with torch.no_grad():
                y = module(x.clone())
            numpy_kind = np.float32 if kind is torch.float32 or name in MAY_BE_NO_FLOAT else np.float64
            assert_within(network, x.numpy(), y.numpy(), numpy_kind)
    finally:
        torch.set_default_dtype(torch.float32)


def _with_parameter(module: nn.Module) -> nn.Module:
    """Give a module without parameters one, so that its format is known."""
    if not list(module.parameters()) and not list(module.buffers()):
        module.register_buffer("format", torch.zeros(1))
    return module


def first(network: Network) -> Affine:
    """Return the first layer."""
    layer = network.layers[0]
    assert isinstance(layer, Affine)
    return layer


@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_weights_are_those_of_the_module(kind: torch.dtype) -> None:
    """Each format is read without rounding."""
    module = nn.Linear(3, 2).to(kind)
    layer = first(read_pytorch(module, (3,)))
    assert np.array_equal(layer.dense, module.weight.detach().double().numpy())
    assert np.array_equal(layer.bias, module.bias.detach().double().numpy())
    assert layer.roundings.tolist() == [4, 4]


def test_numbers_are_rounded_as_torch_does() -> None:
    """A Python number in a float32 module is the float32 nearest to it."""
    network = read_pytorch(Apply(lambda x: x + 0.1), (1,))
    assert network.exact([Fraction(0)]) == [Fraction(float(np.float32(0.1)))]


def test_same_function_as_its_own_graph_in_other_words() -> None:
    """A module and its functional form give the very same network."""
    torch.manual_seed(1)
    layers = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2))
    body = Apply(lambda x: layers[2](torch.maximum(layers[0](x), torch.zeros(5))))
    body.layers = layers
    assert read_pytorch(layers, (4,)).digest == read_pytorch(body, (4,)).digest


def test_module_is_left_as_it_was() -> None:
    """Reading changes neither the mode of a module nor its parameters."""
    module = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
    before = {name: value.clone() for name, value in module.state_dict().items()}
    assert module.training
    read_pytorch(module, (3,))
    assert module.training
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())


def test_shapes_and_name() -> None:
    """The input shape is that of one sample, and the network is called like the class."""
    network = read_pytorch(nn.Conv2d(2, 1, 2), IMAGE)
    assert network.input_shape == IMAGE
    assert network.name == "Conv2d"


REFUSED: dict[str, tuple[nn.Module, tuple[int, ...], str]] = {
    "sigmoid": (nn.Sequential(nn.Linear(4, 4), nn.Sigmoid()), VECTOR, r"sigmoid .*'1: sigmoid'.*not piecewise linear"),
    "softmax": (nn.Softmax(1), VECTOR, r"softmax .*leave it out"),
    "dropout in training": (nn.Dropout(0.5), VECTOR, r"dropout .*module\.eval"),
    "transposed": (nn.ConvTranspose1d(3, 2, 2), SIGNAL, r"conv_transpose1d .*not supported"),
    "square": (Apply(lambda x: x * x), VECTOR, r"mul .*both depend on the input"),
    "quotient": (Apply(lambda x: 1 / x), VECTOR, "reciprocal"),
    "floor": (Apply(lambda x: torch.div(x, 2, rounding_mode="floor")), VECTOR, r"div .*rounding_mode"),
    "uneven": (nn.AdaptiveAvgPool2d(4), IMAGE, r"adaptive_avg_pool2d .*only sizes that divide"),
    "indices": (Apply(lambda x: F.max_pool2d(x, 2, return_indices=True)[1] * 1.0), IMAGE, "result 1 is not supported"),
    "largest": (Apply(lambda x: x.max(dim=1).values), VECTOR, r"max .*two tensors"),
    "half": (Apply(lambda x: x.half().float()), VECTOR, "float16 is coarser"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_supported_names_function_and_place(name: str) -> None:
    """Each refusal is an UnsupportedLayer with the function, its place and a reason."""
    module, shape, message = REFUSED[name]
    with pytest.raises(UnsupportedLayer, match=message):
        read_pytorch(module, shape)


def test_batch_norm_in_training_is_refused() -> None:
    """Its output depends on the other samples then."""
    with pytest.raises(InputError, match=r"module\.eval"):
        read_pytorch(nn.BatchNorm2d(2), IMAGE)


@pytest.mark.parametrize(
    ("module", "shape", "message"),
    [
        (nn.Linear(4, 2), (3,), r"Linear cannot be exported for one input of shape \(3,\)"),
        (Apply(lambda x: x if x.sum() > 0 else -x), VECTOR, "cannot be exported"),
        (Apply(lambda x: (x, -x)), VECTOR, "one output, this one has 2"),
        (nn.Linear(4, 2), (0,), "size below 1"),
        ("net.pt", VECTOR, r"expected a torch\.nn\.Module, found str"),
    ],
)
def test_unusable_modules_are_one_error(module: Any, shape: tuple[int, ...], message: str) -> None:
    """Wrong shapes, branches on values and several outputs are input errors."""
    with pytest.raises(InputError, match=message):
        read_pytorch(module, shape)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_named(bad: float) -> None:
    """The message names the parameter."""
    module = nn.Sequential(nn.Linear(3, 2))
    module[0].weight.data[1, 2] = bad
    with pytest.raises(InputError, match=rf"linear .*'0.weight' holds {bad} at index \(1, 2\)"):
        read_pytorch(module, (3,))


def test_negative_variance_is_refused() -> None:
    """No training gives it, and it would break the count of roundings."""
    module = nn.BatchNorm1d(2).eval()
    module.running_var[0] = -1e-9
    with pytest.raises(InputError, match="negative variance"):
        read_pytorch(module, (2,))


def test_every_function_has_a_reason_to_be_there() -> None:
    """The registry has no name that torch does not know."""
    assert all(hasattr(torch.ops.aten, name) for name in FUNCTIONS)


def test_reader_is_imported_without_torch() -> None:
    """Importing the reader does not import torch; only reading does."""
    code = "import sys, optverify.io.pytorch; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_missing_torch_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without torch the error says which extra brings it."""
    from optverify.errors import MissingExtra

    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtra, match=r"optverify\[torch\]"):
        read_pytorch(nn.Linear(2, 2), (2,))
