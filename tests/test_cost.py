import weakref
from dataclasses import replace

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from outcrop.errors import OutcropError
from outcrop.models.architectures import NETWORKS, ResidualNet
from outcrop.models.cost import cost_of, short
from outcrop.models.factory import build
from outcrop.models.residual import draw_kept
from tests.command_line import run

SIZE = (32, 32)


@pytest.mark.parametrize(
    ("name", "millions", "tolerance"),
    [
        ("resnet20", 40.8, 0.01),
        ("resnet56", 125.49, 1e-4),  # with the next: Lin et al. 2020 (arXiv:2002.10179)
        ("resnet110", 252.89, 1e-4),
        ("wrn28-10", 5240, 0.01),
    ],
)
def test_published_multiply_adds(name: str, millions: float, tolerance: float) -> None:
    found = cost_of(NETWORKS[name], 3, SIZE, 10).multiply_adds
    assert found / 1e6 == pytest.approx(millions, rel=tolerance)


@pytest.mark.parametrize(
    ("name", "millions", "digits"),
    [("resnet20", 0.27, 2), ("resnet110", 1.7, 1), ("resnet1202", 19.4, 1), ("wrn28-10", 36.5, 1)],
)
def test_published_parameters(name: str, millions: float, digits: int) -> None:
    assert round(cost_of(NETWORKS[name], 3, SIZE, 10).parameters / 1e6, digits) == millions


NETS = [
    ResidualNet(depth=8, width=4),
    ResidualNet(depth=32, width=4, levels=3, survival=0.5),
    ResidualNet(depth=38, width=4, levels=5, order="pre-activation", shortcut="projection"),
    ResidualNet(depth=29, width=4, order="pre-activation", bottleneck=True, shortcut="projection"),
    ResidualNet(depth=22, width=2, widen=3, shortcut="projection", stem="large"),
]


def kept_for_real(network: ResidualNet, images: torch.Tensor) -> int:
    """Bytes that a forward pass on the CPU keeps, without weights and statistics."""
    module = build(network, images.shape[1], 10).train()
    ours = {tensor.data_ptr() for tensor in (*module.parameters(), *module.buffers())}
    kept: dict[int, torch.Tensor] = {}

    def remember(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with saved_tensors_hooks(remember, lambda tensor: tensor):
        module(images, (True,) * len(network.survivals))
    return sum(t.untyped_storage().nbytes() for where, t in kept.items() if where not in ours)


@pytest.mark.parametrize("network", NETS, ids=lambda network: network.title)
@pytest.mark.parametrize("size", [(8, 8), (13, 10)])
def test_parameters_and_memory_are_those_of_the_network_itself(
    network: ResidualNet, size: tuple[int, int]
) -> None:
    cost = cost_of(network, 5, size, 10)
    module = build(network, 5, 10)
    assert cost.parameters == sum(parameter.numel() for parameter in module.parameters())
    # The memory of two more images: statistics of the batch exist once.
    two, four = (kept_for_real(network, torch.randn(n, 5, *size)) for n in (2, 4))
    statistics = 2 * two - four
    assert 2 * cost.activations == pytest.approx(two, abs=len(network.survivals))
    assert 0 <= statistics < 0.25 * two


def counted(network: ResidualNet, kept: tuple[bool, ...] | None) -> int:
    """Multiply-adds of the built network, one convolution after the other."""
    module, total = build(network, 3, 10).train(), 0

    def add(part: torch.nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        nonlocal total
        total += part.weight.numel() * (output[0, 0].numel() if output.dim() == 4 else 1)

    for part in module.modules():
        if isinstance(part, torch.nn.Conv2d | torch.nn.Linear):
            part.register_forward_hook(add)
    module(torch.zeros(2, 3, 9, 12), kept)
    return total


@pytest.mark.parametrize("network", NETS, ids=lambda network: network.title)
def test_multiply_adds_and_saving_are_those_that_are_computed(network: ResidualNet) -> None:
    network = replace(network, survival=0.5)
    cost = cost_of(network, 3, (9, 12), 10)
    assert cost.multiply_adds == counted(network, (True,) * cost.blocks)
    # Expected by hand: multiply-adds of each block times its probability of being dropped.
    expected = 0.0
    for k, survival in enumerate(network.survivals):
        without = counted(network, tuple(j != k for j in range(cost.blocks)))
        expected += (1 - survival) * (cost.multiply_adds - without) / cost.multiply_adds
    assert cost.expected_saving == pytest.approx(expected)
    assert cost.expected_blocks == pytest.approx(sum(network.survivals))


def test_saving_is_not_the_share_of_blocks() -> None:
    """The stem is never dropped, and the first blocks of stages cost less than the others."""
    cost = cost_of(ResidualNet(depth=20, survival=0.5, survival_schedule="constant"), 3, SIZE, 10)
    assert 0.47 < cost.expected_saving < 0.5
    assert cost_of(ResidualNet(depth=20), 3, SIZE, 10).expected_saving == 0


def test_counting_takes_no_random_numbers() -> None:
    before = torch.get_rng_state()
    cost_of(ResidualNet(depth=14, width=5), 3, SIZE, 10, recompute=2)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("wrong", [(0, SIZE, 10), (3, (0, 8), 10), (3, (8, 0), 10), (3, SIZE, 0)])
def test_a_cost_of_no_images_is_refused(wrong: tuple) -> None:
    with pytest.raises(OutcropError, match="must be at least 1"):
        cost_of(ResidualNet(), *wrong)


# Recomputation


class Live(TorchDispatchMode):
    """Records the maximum number of bytes of live tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self.seen: set[int] = set()

    def __torch_dispatch__(self, function, types, arguments=(), settings=None):
        output = function(*arguments, **(settings or {}))
        for tensor in tree_leaves(output):
            storage = tensor.untyped_storage() if isinstance(tensor, torch.Tensor) else None
            if storage is not None and id(storage) not in self.seen:
                self.seen.add(id(storage))
                weakref.finalize(storage, self._gone, id(storage), storage.nbytes())
                self.now += storage.nbytes()
                self.most = max(self.most, self.now)
        return output

    def _gone(self, key: int, bytes_: int) -> None:
        self.seen.discard(key)
        self.now -= bytes_


def most_alive(network: ResidualNet, segment: int, pictures: int) -> int:
    """Maximum number of bytes in forward and backward pass."""
    with torch.device("meta"):
        module = build(network, 3, 10).train()
        images = torch.empty(pictures, 3, *SIZE)
        labels = torch.empty(pictures, dtype=torch.int64)
    module.recompute(segment)
    for parameter in module.parameters():
        parameter.grad = torch.empty_like(parameter)
    with Live() as live:
        logits = module(images, (True,) * len(network.survivals))
        F.cross_entropy(logits, labels).backward()
    return live.most


@pytest.mark.parametrize(("levels", "segment"), [(1, 0), (1, 1), (1, 8), (3, 3)])
def test_recomputed_memory_is_that_of_a_step(levels: int, segment: int) -> None:
    network = ResidualNet(depth=50, levels=levels)
    cost = cost_of(network, 3, SIZE, 10, recompute=segment)
    few, many = (most_alive(network, segment, pictures) for pictures in (4, 12))
    a_map = 16 * 32 * 32 * 4
    assert (many - few) / 8 == pytest.approx(cost.activations, abs=5 * a_map)
    assert segment == 0 or cost.activations < 40 * a_map


def test_a_very_deep_network_fits_where_it_did_not() -> None:
    whole = cost_of(NETWORKS["resnet602"], 3, SIZE, 10).activations
    parts = cost_of(NETWORKS["resnet602"], 3, SIZE, 10, recompute=8).activations
    assert parts < 0.1 * whole


@pytest.mark.parametrize(
    "network",
    [
        ResidualNet(depth=26, width=4, survival=0.5),
        ResidualNet(depth=26, width=4, levels=5, shortcut="projection"),
        replace(NETS[3], depth=38, levels=3, survival=0.6),
    ],
    ids=lambda network: network.title,
)
@pytest.mark.parametrize("segment", [1, 2, 3, 9])
def test_recomputation_changes_no_bit(network: ResidualNet, segment: int) -> None:
    torch.manual_seed(0)
    one = build(network, 3, 4).train()
    other = build(network, 3, 4).train()
    other.load_state_dict(one.state_dict())
    other.recompute(segment)
    optimisers = [torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9) for net in (one, other)]
    for _ in range(3):
        images, labels = torch.randn(6, 3, 10, 9), torch.arange(6) % 4
        kept = draw_kept(network, torch.rand(len(network.survivals)).tolist())
        for net, optimiser in zip((one, other), optimisers, strict=True):
            optimiser.zero_grad()
            F.cross_entropy(net(images, kept), labels).backward()
            optimiser.step()
        for (name, p), q in zip(one.named_parameters(), other.parameters(), strict=True):
            assert (p.grad is None) == (q.grad is None), name
            assert p.grad is None or torch.equal(p.grad, q.grad), name
    for name, tensor in one.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name
    assert other.segments or segment == 9


@pytest.mark.parametrize("levels", [1, 3, 5])
@pytest.mark.parametrize("segment", [1, 2, 3, 4, 7])
def test_segments_cover_all_but_the_last_blocks(levels: int, segment: int) -> None:
    network = ResidualNet(depth=74, width=2, levels=levels)
    module = build(network, 1, 2)
    module.recompute(segment)
    again = [k for blocks in module.segments for k in blocks]
    assert again == list(range(len(again)))
    assert max(map(len, module.segments)) <= segment
    assert 1 <= len(module.blocks) - len(again) <= 4 * segment
    module.recompute(0)
    assert module.segments == ()


# The command


def test_models_prints_the_family(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("models") == 0
    out = capsys.readouterr().out
    rows = {line.split()[0]: line for line in out.splitlines()}
    assert set(NETWORKS) <= rows.keys()
    assert "0.27 M" in rows["resnet20"]
    assert "40.6 M" in rows["resnet20"]
    assert "1.45 MiB" in rows["resnet20"]
    assert rows["resnet110-sd"].split()[-3:] == ["25.4", "%", "501"]
    assert "note:" not in out


def test_models_prints_one_network_and_what_a_large_stem_saves(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run("models --depth 8 --survival 0.5 --size 150,100 --bands 4 --classes 3") == 0
    out = capsys.readouterr().out
    assert "ResNet-8 + stochastic depth" in out
    assert "resnet20" not in out
    assert "4 × 150 × 100" in out
    assert "note: with --stem large" in out
    assert run("models --network wrn28-10 --size 32") == 0
    assert "36.5 M" in capsys.readouterr().out


def test_short_numbers_keep_three_digits() -> None:
    assert [short(n) for n in (4_920, 99_000, 853_018, 999_400_000, 999_600_000)] == [
        "4.92 k",
        "99 k",
        "0.853 M",
        "999 M",
        "1 G",
    ]
    assert short(6 << 30, 1024) == "6 GiB"
