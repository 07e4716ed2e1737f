"""Uploaded images: the tensors that models get, and rejected files."""

import io
import itertools
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any, Literal

import httpx
import psutil  # type: ignore[import-untyped]
import pytest
from PIL import Image, ImageDraw
from slipway_contract.signature import Column, ImageSpec, Signature
from slipway_contract.v2 import Datatype, InferenceRequest
from slipway_gateway.preprocessing.image import Refusal, pixels
from slipway_gateway.preprocessing.trimmed import trimmed

from tests.gateway.environment import Client, Environment
from tests.gateway.predictor import Predictor

DIGIT = ImageSpec(width=8, height=8, mode="L", fit="contain", white=16, ground="black", trim=True)
SIGNATURE = Signature(
    inputs=(
        Column(
            name="pixels", datatype=Datatype.FP32, shape=(8, 8), minimum=0, maximum=16, image=DIGIT
        ),
        Column(name="weight", datatype=Datatype.FP32),
        Column(name="title", datatype=Datatype.BYTES, max_length=5),
    ),
    outputs=(
        Column(name="label", datatype=Datatype.INT64, codes={0: "dim", 1: "bright"}),
        Column(name="probabilities", datatype=Datatype.FP32, shape=(2,), minimum=0, maximum=1),
    ),
)
PATH = "/v1/models/digits/predictions"
FIELDS = {"weight": "1", "title": "one"}
MOST = 40_000_000


def _predict(service: str, asked: InferenceRequest) -> dict[str, Any]:
    """Return the weighted brightness of each image."""
    given = {tensor.name: tensor.data for tensor in asked.inputs}
    weights = given["weight"]
    bright = [
        sum(given["pixels"][row * 64 : row * 64 + 64]) / 1024 * weight
        for row, weight in enumerate(weights)
    ]
    label = {
        "name": "label",
        "shape": [len(bright)],
        "datatype": "INT64",
        "data": [int(each > 0.5) for each in bright],
    }
    both = [value for each in bright for value in (1 - each, each)]
    probabilities = {
        "name": "probabilities",
        "shape": [len(bright), 2],
        "datatype": "FP32",
        "data": both,
    }
    return {
        "model_name": service,
        "model_version": "1",
        "id": asked.id,
        "outputs": [label, probabilities],
    }


@pytest.fixture(scope="module")
def studio(new_environment: Callable[[], Environment]) -> Iterator[Environment]:
    with Predictor(SIGNATURE, _predict) as predictor:
        environment = new_environment()
        environment.model("digits", ("1", 100), url=predictor.url)
        environment.model("heart", ("3", 100))
        yield environment


@pytest.fixture(scope="module")
def client(studio: Environment) -> Iterator[Client]:
    with studio.gateway(image_seconds=60) as client:
        yield client


def file_of(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def one(
    size: tuple[int, int], ink: str = "black", paper: str = "white", mode: str = "RGB"
) -> Image.Image:
    """Return an image of an upright bar outside of the center."""
    image = Image.new(mode, size, paper)
    ImageDraw.Draw(image).rectangle(
        (size[0] // 8, size[1] // 8, size[0] // 4, size[1] * 7 // 8), fill=ink
    )
    return image


def send(
    client: Client, *files: bytes, top: int | None = None, field: str = "pixels", **fields: Any
) -> httpx.Response:
    headers = {"authorization": f"Bearer {client.environment.issuer.token()}"}
    parts = [(field, (f"{index}.png", content, "image/png")) for index, content in enumerate(files)]
    parameters = {"top": top} if top else {}
    return client.http.post(
        PATH, files=parts, data={**FIELDS, **fields}, params=parameters, headers=headers
    )


def seen(client: Client, answer: httpx.Response) -> list[float]:
    """Return the values that the model got, from the receipt."""
    receipt = client.get(f"/v1/predictions/{answer.json()['requestId']}").json()
    data: list[float] = receipt["request"]["inputs"][0]["data"]
    return data


def test_the_model_gets_the_same_values_for_any_polarity_size_and_format(
    client: Client,
) -> None:
    files = [
        file_of(one((160, 160))),
        file_of(one((640, 640), "white", "black"), "GIF"),
        file_of(one((320, 320), mode="L"), "JPEG", quality=95),
    ]
    answers = [send(client, file) for file in files]
    assert [answer.status_code for answer in answers] == [200, 200, 200], answers[0].text
    first, *others = (seen(client, answer) for answer in answers)
    assert (min(first), max(first), len(first)) == (0, 16, 64)
    for other in others:
        assert other == pytest.approx(first, abs=1)


@pytest.mark.slow
def test_several_files_become_rows_in_order(client: Client) -> None:
    tall, wide = one((100, 300)), one((100, 300)).rotate(90, expand=True)
    each = [send(client, file_of(image)).json()["predictions"][0] for image in (tall, wide)]
    answer = send(client, file_of(tall), file_of(wide), file_of(tall), weight=["1", "1", "0"])
    assert answer.json()["predictions"][:2] == each
    assert answer.json()["predictions"][2]["probabilities"] == [1, 0]
    assert (
        send(client, file_of(tall), file_of(wide), file_of(tall), weight=["1", "2"]).status_code
        == 422
    )


def test_the_most_probable_classes_are_returned_on_request(client: Client) -> None:
    (row,) = send(client, file_of(one((80, 80))), top=1).json()["predictions"]
    (best,) = row["top"]
    assert (best["label"], best["name"]) == (row["label"], ("dim", "bright")[row["label"]])
    assert best["probability"] == max(row["probabilities"])
    answer = client.post("/v1/models/heart/predictions?top=2", {"instances": [{}]})
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "top")


def test_the_first_bytes_of_a_file_determine_its_format(client: Client) -> None:
    for file in (file_of(one((9, 9)), "BMP"), b"<svg xmlns='http://www.w3.org/2000/svg'/>", b""):
        answer = send(client, file)
        assert (answer.status_code, answer.json()["detail"]) == (
            415,
            "the image is not a PNG, JPEG or GIF file",
        )


def test_a_file_of_more_than_10_mib_is_too_large(client: Client) -> None:
    answer = send(client, b"\x89PNG\r\n\x1a\n".ljust(10 * 2**20 + 1, b"x"))
    assert (answer.status_code, answer.json()["detail"]) == (
        413,
        "an image is larger than 10485760 bytes; send a smaller file",
    )
    assert send(client, b"\x89PNG\r\n\x1a\n".ljust(10 * 2**20, b"x")).status_code == 422


def _bomb(width: int, height: int) -> bytes:
    """Return a PNG of a few bytes whose header has this size."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content))
            + kind
            + content
            + struct.pack(">I", zlib.crc32(kind + content))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )


def test_an_image_with_too_many_pixels_is_rejected_before_it_is_decoded(client: Client) -> None:
    answer = send(client, file_of(one((8, 8))), _bomb(60_000, 60_000))
    assert answer.status_code == 422
    assert (
        answer.json()["detail"] == "pixels: image 1 has 60000 × 60000 pixels; 40000000 are allowed"
    )


def test_the_largest_allowed_image_is_decoded(client: Client) -> None:
    assert (
        send(client, file_of(Image.new("RGBA", (8000, 5000), "red"), compress_level=1)).status_code
        == 200
    )


@pytest.mark.slow
@pytest.mark.parametrize("cut", [9, 40, 200])
def test_an_invalid_file_is_rejected(client: Client, cut: int) -> None:
    answer = send(client, file_of(Image.effect_noise((64, 64), 50))[:cut])
    assert answer.status_code == 422
    assert "image 0 cannot be read" in answer.json()["detail"]


def test_decoding_ends_in_time_and_leaves_no_process(studio: Environment) -> None:
    large = file_of(Image.new("L", (6300, 6300)))
    with studio.gateway(image_seconds=1) as client:
        answer = send(client, *[large] * 40)
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "pixels")
        decoders = [
            child.pid
            for child in psutil.Process().children(recursive=True)
            if "slipway_gateway.preprocessing.image" in _command(child)
        ]
        assert decoders == []
        assert client.get("/v1/me").status_code == 200


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("parts", "field", "problem"),
    [
        ({"field": "image"}, "image", "the input that takes images is pixels"),
        ({"title": "longer"}, "title", "has 6 characters; 5 are allowed"),
        ({"weight": "much"}, "weight", "is not FP32"),
        ({"colour": "red"}, "colour", "is not an input"),
    ],
)
def test_an_invalid_field_is_named(
    client: Client, parts: dict[str, str], field: str, problem: str
) -> None:
    answer = send(client, file_of(one((8, 8))), **parts)  # type: ignore[arg-type]
    assert answer.status_code == 422
    (finding,) = answer.json()["errors"]
    assert finding["field"] == field
    assert problem in finding["problem"]


def test_a_form_without_a_file_or_for_a_model_without_images_is_rejected(client: Client) -> None:
    headers = {"authorization": f"Bearer {client.environment.issuer.token()}"}
    form = {"files": {"pixels": ("1.png", file_of(one((8, 8))))}, "headers": headers}
    assert client.http.post("/v1/models/heart/predictions", **form).status_code == 415  # type: ignore[arg-type]
    answer = client.http.post(PATH, files={"title": (None, "x")}, headers=headers)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "pixels")
    broken = client.post(PATH, b"no form", content_type="multipart/form-data; boundary=x")
    assert broken.status_code in (400, 422)
    assert client.post(PATH, b"no form", content_type="multipart/form-data").status_code == 400


def test_a_form_field_is_parsed_like_a_csv_field(client: Client) -> None:
    assert send(client, file_of(CORNER), weight=" +1.0 ", title="'").status_code == 200
    answer = send(client, file_of(CORNER), weight="1,5")
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "weight")
    assert (
        answer.json()["detail"]
        == "weight: '1,5' is not FP32; write a point before decimals, and nothing between thousands"
    )


def test_values_instead_of_an_image_are_accepted(client: Client) -> None:
    row = {"pixels": [[16] * 8] * 8, "weight": 1, "title": "white"}
    assert client.post(PATH, {"instances": [row]}).json()["predictions"][0]["label"] == 1


def test_the_document_has_a_field_for_files(client: Client) -> None:
    operation = client.get("/v1/openapi.json").json()["paths"][PATH]["post"]
    schema = operation["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert schema["properties"]["pixels"]["items"]["format"] == "binary"
    assert schema["properties"]["title"]["maxLength"] == 5
    assert (
        client.post(
            PATH, operation["requestBody"]["content"]["application/json"]["example"]
        ).status_code
        == 200
    )


def _values(
    image: Image.Image, kind: str = "PNG", spec: ImageSpec | None = None, **options: Any
) -> list[int]:
    spec = spec or ImageSpec(width=2, height=2, mode="L")
    return list(pixels(file_of(image, kind, **options), spec, MOST))


CORNER = Image.new("L", (64, 64))
CORNER.paste(255, (0, 0, 32, 32))
UPPER_LEFT = [255, 0, 0, 0]


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "I;16"])
def test_every_mode_of_a_png_is_decoded(mode: str) -> None:
    if mode == "I;16":
        image = Image.frombytes(
            "I;16", (64, 64), b"".join(bytes((0, value)) for value in CORNER.tobytes())
        )
    elif mode == "LA":
        image = Image.merge("LA", (CORNER, Image.new("L", CORNER.size, 255)))
    else:
        image = CORNER.convert(mode)
    assert _values(image) == pytest.approx(UPPER_LEFT, abs=8)


def test_transparent_pixels_are_background() -> None:
    clear = Image.merge("LA", (Image.new("L", (64, 64)), CORNER))
    assert _values(clear) == pytest.approx([0, 255, 255, 255], abs=8)


def test_a_photograph_is_rotated_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # taken with the camera turned: rotate by 90 degrees to the right
    assert _values(CORNER, "JPEG", exif=exif) == pytest.approx([0, 255, 0, 0], abs=8)


def test_a_cmyk_photograph_and_the_first_frame_of_an_animation_are_decoded() -> None:
    assert _values(CORNER.convert("RGB").convert("CMYK"), "JPEG") == pytest.approx(
        UPPER_LEFT, abs=8
    )
    assert _values(
        CORNER, "GIF", save_all=True, append_images=[Image.new("L", (64, 64))]
    ) == pytest.approx(UPPER_LEFT, abs=8)


def test_each_fit_mode() -> None:
    wide = Image.new("L", (120, 60))
    wide.paste(255, (60, 0, 120, 60))
    found = {
        fit: _values(wide, spec=ImageSpec(width=2, height=2, mode="L", fit=fit))
        for fit in ("stretch", "contain", "cover")
    }
    assert found["stretch"] == pytest.approx([0, 255, 0, 255], abs=8)
    assert found["cover"] == pytest.approx([0, 255, 0, 255], abs=8)
    assert found["contain"][:2] == [0, 255] or found["contain"][2:] == [0, 255]


def test_the_central_share_of_a_side_is_kept() -> None:
    wide = Image.new("L", (16, 8))
    wide.paste(255, (6, 2, 10, 6))
    spec = ImageSpec(width=2, height=2, mode="L", fit="cover", crop=0.5)
    assert _values(wide, spec=spec) == [255] * 4
    whole = ImageSpec(width=2, height=2, mode="L", fit="cover")
    assert _values(wide, spec=whole) == pytest.approx([64] * 4, abs=1)
    tiny = ImageSpec(width=2, height=2, mode="L", fit="cover", crop=0.01)
    assert _values(Image.new("L", (1, 1), 7), spec=tiny) == [7] * 4


@pytest.mark.parametrize("name", ["bilinear", "bicubic"])
def test_the_filter_is_that_of_the_signature(name: Literal["bilinear", "bicubic"]) -> None:
    image = Image.effect_noise((451, 300), 90)
    spec = ImageSpec(width=224, height=224, mode="L", fit="cover", crop=0.875, resampling=name)
    # ⌊0.875 · 300⌋ pixels around the centre, as the preprocessing of EfficientNet takes them.
    central = image.crop((95, 19, 357, 281))
    expected = central.resize((224, 224), Image.Resampling[name.upper()])
    assert _values(image, spec=spec) == list(expected.tobytes())


def test_a_blank_image_is_blank() -> None:
    spec = DIGIT.model_copy(update={"ground": "white"})
    for paper, ground in itertools.product(("white", "black"), (DIGIT, spec)):
        values = set(pixels(file_of(Image.new("L", (50, 20), paper)), ground, MOST))
        assert values == ({0} if ground is DIGIT else {255})


def test_other_formats_are_rejected() -> None:
    with pytest.raises(Refusal, match="cannot be read"):
        pixels(file_of(one((9, 9)), "TIFF"), DIGIT, MOST)


NOISE = Image.effect_noise((64, 64), 80).tobytes() * 256
"""One MiB of incompressible bytes."""


def _chunk(kind: bytes, content: bytes) -> bytes:
    return (
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
    )


def _segments(marker: bytes) -> bytes:
    """Return the noise as segments of a JPEG."""
    size = 60_000
    return b"".join(
        b"\xff" + marker + struct.pack(">H", len(part) + 2) + part
        for part in (NOISE[start : start + size] for start in range(0, len(NOISE), size))
    )


def _blocks() -> bytes:
    """Return the noise as sub-blocks of a GIF."""
    parts = (NOISE[start : start + 255] for start in range(0, len(NOISE), 255))
    return b"".join(bytes([len(part)]) + part for part in parts) + b"\0"


UPRIGHT = Image.Exif()
UPRIGHT[0x0112] = 1
CLEAN = [
    file_of(one((64, 48))),
    file_of(one((64, 48)).convert("P"), transparency=0),
    file_of(Image.effect_noise((300, 200), 50), "JPEG", quality=95),
    file_of(Image.effect_noise((300, 200), 50), "JPEG", progressive=True, exif=UPRIGHT),
    file_of(one((64, 48)).convert("CMYK"), "JPEG"),
    file_of(one((64, 48)), "GIF"),
]
PNG, JPEG, GIF = CLEAN[0], CLEAN[2], CLEAN[5]
LOADED = {
    "bytes after a PNG": (PNG, PNG + NOISE),
    "a text in a PNG": (PNG, PNG[:33] + _chunk(b"tEXt", b"k\0" + NOISE) + PNG[33:]),
    "an own block of a PNG": (PNG, PNG[:33] + _chunk(b"noIs", NOISE) + PNG[33:]),
    "bytes after a JPEG": (JPEG, JPEG + NOISE),
    "blocks of a JPEG's application": (JPEG, JPEG[:20] + _segments(b"\xe5") + JPEG[20:]),
    "comments in a JPEG": (JPEG, JPEG[:20] + _segments(b"\xfe") + JPEG[20:]),
    "bytes after a GIF": (GIF, GIF + NOISE),
    "a comment in a GIF": (GIF, GIF[:-1] + b"\x21\xfe" + _blocks() + GIF[-1:]),
}


@pytest.mark.parametrize("content", CLEAN)
def test_a_file_without_other_data_is_stored_unchanged(content: bytes) -> None:
    assert trimmed(content) == content


@pytest.mark.parametrize(("clean", "loaded"), LOADED.values(), ids=LOADED)
def test_data_that_is_not_part_of_the_image_is_not_stored(clean: bytes, loaded: bytes) -> None:
    assert (
        Image.open(io.BytesIO(loaded)).convert("RGB").tobytes()
        == Image.open(io.BytesIO(clean)).convert("RGB").tobytes()
    )
    assert trimmed(loaded) == clean


@pytest.mark.parametrize("content", CLEAN)
def test_a_truncated_file_is_trimmed_without_an_error(content: bytes) -> None:
    for end in range(14, len(content), max(1, len(content) // 200)):
        assert len(trimmed(content[:end])) <= end + 1


def test_a_receipt_has_the_image_without_trailing_data(client: Client) -> None:
    answer = send(client, PNG + NOISE)
    assert answer.status_code == 200
    shown = client.get(f"/v1/predictions/{answer.json()['requestId']}/images/0")
    assert (shown.status_code, shown.content) == (200, PNG)


@pytest.mark.slow
def test_the_stored_images_of_one_caller_are_limited(
    new_environment: Callable[[], Environment],
) -> None:
    with Predictor(SIGNATURE, _predict) as predictor:
        environment = new_environment()
        environment.model("digits", ("1", 100), url=predictor.url)
        noisy = [file_of(Image.effect_noise((64, 64), 50 + step)) for step in range(4)]
        room = 2 * len(noisy[0]) + 2000
        with environment.gateway(image_seconds=60, storage_per_caller=room) as client:
            assert [send(client, noisy[0]).status_code, send(client, noisy[1]).status_code] == [
                200,
                200,
            ]
            refused = send(client, noisy[2])
            assert (
                refused.status_code,
                f"{room} are allowed" in refused.text,
                "retry-after" in refused.headers,
            ) == (429, True, True)
            headers = client._headers("bob")
            files = {"pixels": ("1.png", noisy[3], "image/png")}
            assert (
                client.http.post(PATH, files=files, data=FIELDS, headers=headers).status_code == 200
            )
        assert len(predictor.asked) == 3, "no prediction is made from images that cannot be stored"
