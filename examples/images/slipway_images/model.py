"""The model ``images``: its signature, and the call that logs a version."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import slipway
from slipway_contract.signature import Column, ImageSpec, Signature
from slipway_contract.v2 import Datatype

from slipway_images.network import CLASSES, SIDE, build_graph
from slipway_images.pretrained import read_names, read_weights

IMAGE = ImageSpec(
    width=SIDE,
    height=SIDE,
    layout="CHW",
    fit="cover",
    crop=0.875,
    resampling="bicubic",
    white=255,
    mean=(127,),
    deviation=(128,),
)
"""The preprocessing of the network's training. The ImageNet means of other networks are wrong."""

USE = (
    "Names the main object of a photograph, among the 1,000 classes of ImageNet. "
    "It returns a class for any image, also for one of a thing that has none, such as a person; "
    "then the probabilities are small. They are smaller than those of other networks for good "
    "answers, too, because the network was trained with smoothed labels. Two classes may have the "
    "same name: the number is the class. The weights were trained on photographs of the web, and "
    "have their biases. No accuracy was measured here; the authors report 75.1 % on ImageNet."
)


def signature() -> Signature:
    """Return the model signature; its labels have the names of the classes."""
    return Signature(
        inputs=(
            Column(
                name="image",
                datatype=Datatype.FP32,
                shape=(3, SIDE, SIDE),
                minimum=-127 / 128,
                maximum=1,
                description="red, green and blue, (value - 127) / 128",
                image=IMAGE,
            ),
        ),
        outputs=(
            Column(
                name="label",
                datatype=Datatype.INT64,
                codes=read_names(),
                description="the most probable class",
            ),
            Column(
                name="probabilities",
                datatype=Datatype.FP32,
                shape=(CLASSES,),
                minimum=0,
                maximum=1,
                description="of the classes, by number",
            ),
        ),
    )


def log_images(name: str = "images") -> Any:
    """Log the network and register a version of ``name``, which is returned."""
    grey = np.zeros((3, SIDE, SIDE), np.float32)
    dark = np.full_like(grey, -0.5)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "efficientnet-lite0.onnx"
        path.write_bytes(build_graph(read_weights()).SerializeToString())
        return slipway.log_model(
            path,
            name,
            example=pd.DataFrame({"image": [grey, dark]}),
            signature=signature(),
            use=USE,
        )
