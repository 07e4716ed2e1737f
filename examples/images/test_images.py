"""The example ``images``: reader of the weights, graph, preprocessing, and a logged version."""

import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from slipway.packaging.inference import load_onnx
from slipway_gateway.preprocessing.image import pixels
from slipway_images import pretrained
from slipway_images.checkpoint import MAGIC, InvalidCheckpoint, read_checkpoint
from slipway_images.model import IMAGE, signature
from slipway_images.network import build_graph, expected_tensors, same_padding

PHOTOGRAPHS = Path("tests/testdata/photographs")
Tensors = dict[str, NDArray[Any]]


@pytest.fixture(scope="module")
def weights() -> Tensors:
    return pretrained.read_weights()


@pytest.fixture(scope="module")
def graph(weights: Tensors) -> bytes:
    return bytes(build_graph(weights).SerializeToString())


def photograph(name: str) -> NDArray[np.float32]:
    """Return the input [1, 3, 224, 224] of a photograph, as the gateway makes it."""
    content = (PHOTOGRAPHS / f"{name}.jpg").read_bytes()
    values = np.frombuffer(pixels(content, IMAGE, 10**7), np.uint8).astype(np.float32)
    scaled = (values.reshape(224, 224, 3) - 127) / 128
    return np.ascontiguousarray(scaled.transpose(2, 0, 1)[None], np.float32)


@pytest.mark.parametrize(
    ("name", "label", "probability", "named"),
    [("chelsea", 282, 0.384, "tiger cat"), ("coffee", 967, 0.954, "espresso")],
)
def test_a_photograph_has_its_stored_probability(
    graph: bytes, name: str, label: int, probability: float, named: str
) -> None:
    outputs = load_onnx(graph)({"image": photograph(name)})
    assert outputs["label"].tolist() == [label]
    assert outputs["probabilities"][0, label] == pytest.approx(probability, abs=0.01)
    (names,) = (column.codes for column in signature().outputs if column.codes)
    assert (len(names), names[label]) == (1000, named)


@pytest.mark.slow
@pytest.mark.parametrize("given", ["random", "chelsea", "coffee"])
def test_the_graph_equals_an_independent_forward_pass(
    graph: bytes, weights: Tensors, given: str
) -> None:
    random = np.random.default_rng(7).integers(0, 256, (1, 3, 224, 224))
    image = ((random - 127) / 128).astype(np.float32) if given == "random" else photograph(given)
    found = load_onnx(graph)({"image": image})["probabilities"][0]
    assert np.abs(found - forward(weights, image[0].astype(np.float64))).max() < 1e-5


def forward(weights: Tensors, image: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the probabilities in FP64, with the normalization after each convolution."""

    def layer(x: NDArray[Any], name: str, norm: str, stride: int = 1, *, limit: bool = True) -> Any:
        kernel = weights[f"{name}.weight"].astype(np.float64)
        scale, shift, mean, variance = (
            weights[f"{norm}.{each}"].astype(np.float64)[:, None, None]
            for each in ("weight", "bias", "running_mean", "running_var")
        )
        y = (convolved(x, kernel, stride) - mean) / np.sqrt(variance + 0.001) * scale + shift
        return np.clip(y, 0, 6) if limit else y

    x = layer(image, "_conv_stem", "_bn0", 2)
    strides = {1: 2, 3: 2, 5: 2, 11: 2}
    for number in range(16):
        start, block = x, f"_blocks.{number}"
        if number:
            x = layer(x, f"{block}._expand_conv", f"{block}._bn0")
        x = layer(x, f"{block}._depthwise_conv", f"{block}._bn1", strides.get(number, 1))
        x = layer(x, f"{block}._project_conv", f"{block}._bn2", limit=False)
        if number in (2, 4, 6, 7, 9, 10, 12, 13, 14):
            x = x + start
    x = layer(x, "_conv_head", "_bn1").mean(axis=(1, 2))
    logits = weights["_fc.weight"].astype(np.float64) @ x + weights["_fc.bias"]
    powers = np.exp(logits - logits.max())
    probabilities: NDArray[np.float64] = powers / powers.sum()
    return probabilities


def convolved(
    x: NDArray[np.float64], kernel: NDArray[np.float64], stride: int
) -> NDArray[np.float64]:
    """Convolve [channels, side, side] with padding to the side ⌈side / stride⌉, more at the end."""
    size, side = kernel.shape[-1], x.shape[1]
    out = (side + stride - 1) // stride
    missing = max((out - 1) * stride + size - side, 0)
    around = (missing // 2, missing - missing // 2)
    x = np.pad(x, ((0, 0), around, around))
    y = np.zeros((len(kernel), out, out))
    for row in range(size):
        for column in range(size):
            part = x[:, row : row + out * stride : stride, column : column + out * stride : stride]
            part, at = part[:, :out, :out], kernel[:, :, row, column]
            y += at[:, :, None] * part if at.shape[1] == 1 else np.tensordot(at, part, 1)
    return y


def test_padding_is_unequal_at_even_sides() -> None:
    assert [same_padding(224, 3, 2), same_padding(56, 5, 2)] == [(0, 1), (1, 2)]
    assert [same_padding(112, 3, 1), same_padding(28, 5, 1)] == [(1, 1), (2, 2)]


# --- the reader: a checkpoint of one tensor, opcode by opcode


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def whole(*values: int) -> bytes:
    return b"".join(b"J" + struct.pack("<i", value) for value in values)


def sequence(*parts: bytes) -> bytes:
    return b"(" + b"".join(parts) + b"t"


def storage(count: int = 6, kind: bytes = b"ctorch\nFloatStorage\n", view: bytes = b"N") -> bytes:
    parts = (text("storage"), kind, text("0"), text("cpu"), whole(count), view)
    return sequence(*parts) + b"Q"


HOOKS = b"ccollections\nOrderedDict\n)R"


def tensor(
    stored: bytes = storage(),
    offset: int = 0,
    size: tuple[int, ...] = (2, 3),
    stride: tuple[int, ...] = (1, 2),
    hooks: bytes = HOOKS,
) -> bytes:
    arguments = (stored, whole(offset), sequence(whole(*size)), sequence(whole(*stride)))
    return b"ctorch._utils\n_rebuild_tensor_v2\n" + sequence(*arguments, b"\x89", hooks) + b"R"


def state(value: bytes, after: bytes = b"") -> bytes:
    return b"\x80\x02" + HOOKS + b"(" + text("w") + value + b"u" + after + b"."


def checkpoint(
    states: bytes,
    keys: tuple[str, ...] = ("0",),
    count: int = 6,
    numbers: int = 6,
    end: bytes = b"",
) -> bytes:
    heads = (MAGIC, 1001, {"protocol_version": 1001, "little_endian": True})
    data = struct.pack("<q", count) + np.arange(numbers, dtype="<f4").tobytes()
    plain = [pickle.dumps(each, 2) for each in heads]
    listed = b"\x80\x02](" + b"".join(map(text, keys)) + b"e."
    return b"".join([*plain, states, listed, data, end])


def test_strides_order_the_values() -> None:
    read = read_checkpoint(checkpoint(state(tensor())))
    assert read["w"].tolist() == [[0, 2, 4], [1, 3, 5]]


METADATA = b"}(" + text("_metadata") + HOOKS + b"ub"


def test_versions_of_the_modules_are_ignored() -> None:
    assert read_checkpoint(checkpoint(state(tensor(), METADATA))).keys() == {"w"}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (checkpoint(state(b"cos\nsystem\n" + sequence(text("true")) + b"R")), "os.system"),
        (checkpoint(state(b"cposix\nsystem\n" + sequence(text("true")) + b"R")), "posix.system"),
        (checkpoint(state(b"cbuiltins\neval\n" + sequence(text("1")) + b"R")), "builtins.eval"),
        (checkpoint(state(b"ccollections\nOrderedDict.__init__\n")), "OrderedDict.__init__"),
        (checkpoint(state(b"ccollections\nOrderedDict.__class__\n")), "OrderedDict.__class__"),
        (checkpoint(state(b"ctorch\nload\n" + sequence(text("x")) + b"R")), "torch.load"),
        (checkpoint(state(b"cnumpy.core.multiarray\n_reconstruct\n")), "_reconstruct"),
        (checkpoint(state(b"(" + text("true") + b"ios\nsystem\n")), "opcode INST"),
        (checkpoint(state(b"\x82\x01")), "opcode EXT1"),
        (checkpoint(state(b"\x8c\x02os\x8c\x06system\x93")), "opcode SHORT_BINUNICODE"),
        (checkpoint(state(b"ctorch\nFloatStorage\n" + sequence(whole(9)) + b"R")), "it calls"),
        (checkpoint(state(tensor(stored=whole(1)))), "without a storage"),
        (checkpoint(state(tensor(hooks=b"}(" + text("a") + whole(1) + b"u"))), "hooks"),
        (checkpoint(state(storage())), "not a named tensor"),
        (checkpoint(state(tensor(storage(kind=b"ccollections\nOrderedDict\n")))), "plain numbers"),
        (checkpoint(state(tensor(storage(view=sequence())))), "plain numbers"),
        (checkpoint(state(tensor(), b"}(" + text("update") + whole(1) + b"ub")), "attribute"),
        (checkpoint(state(tensor(offset=1))), "outside"),
        (checkpoint(state(tensor(offset=-1))), "outside"),
        (checkpoint(state(tensor(size=(2, 4)))), "outside"),
        (checkpoint(state(tensor(size=(0, 3)))), "outside"),
        (checkpoint(state(tensor(stride=(-1, 2)))), "outside"),
        (checkpoint(state(tensor(size=(3, 3), stride=(0, 1)))), "outside"),
        (checkpoint(state(tensor() + text("v") + tensor())), "two tensors"),
        (checkpoint(state(tensor(size=(2**30, 2**30), stride=(0, 0)))), "outside"),
        (checkpoint(state(tensor(size=(2, 3, 1)))), "shape"),
        (checkpoint(state(tensor(storage(2**31 - 1))), count=2**31 - 1), "number of elements"),
        (checkpoint(state(tensor(storage(-6))), count=-6), "number of elements"),
        (checkpoint(state(tensor()), count=5), "number of elements"),
        (checkpoint(state(tensor()), keys=("1",)), "list of storages"),
        (checkpoint(state(tensor()), keys=("0", "0")), "list of storages"),
        (checkpoint(state(tensor()), end=b"\0"), "after the last storage"),
        (b"\x80\x02r\xff\xff\xff\x3f.", "cannot be read"),
        (b"\x80\x02" + b"(" * 5 + b"t.", "does not begin"),
        (b"PK\x03\x04", "cannot be read"),
        (b"", "cannot be read"),
    ],
)
def test_a_hostile_file_is_refused(content: bytes, problem: str) -> None:
    with pytest.raises(InvalidCheckpoint, match=problem.replace(".", r"\.")):
        read_checkpoint(content)


def test_every_truncated_file_is_refused() -> None:
    content = checkpoint(state(tensor(), METADATA))
    for length in range(len(content)):
        with pytest.raises(InvalidCheckpoint):
            read_checkpoint(content[:length])


def test_a_checkpoint_of_another_network_is_refused() -> None:
    with pytest.raises(InvalidCheckpoint, match="is missing, or is not expected"):
        pretrained.parse_weights(checkpoint(state(tensor())))


def test_changed_weights_are_refused_before_they_are_parsed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pretrained, "WEIGHTS_SHA256", "0" * 64)
    with pytest.raises(InvalidCheckpoint, match=f"{'0' * 64} is expected"):
        pretrained.read_weights()


def test_the_checkpoint_has_exactly_the_tensors_of_the_network(weights: Tensors) -> None:
    assert {name: each.shape for name, each in weights.items()} == expected_tensors()
    assert len(weights) == 296
