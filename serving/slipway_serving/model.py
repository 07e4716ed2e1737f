"""The one model class: any artifact with a signature, behind MLServer's interface."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from mlserver import MLModel, ModelSettings
from mlserver.types import (
    InferenceRequest,
    InferenceResponse,
    MetadataModelResponse,
    MetadataTensor,
    Parameters,
    ResponseOutput,
)
from slipway_contract.registry import CARD, ArtifactFormat
from slipway_contract.signature import Column, Signature
from slipway_contract.v2 import Datatype, Tensor

from slipway_serving.artifact import Artifact
from slipway_serving.batches import Batches, Predict
from slipway_serving.predictor import Predictor
from slipway_serving.tensors import contract_tensors, to_array, to_output
from slipway_serving.threads import run

INLINE_VALUES = 16_384
"""Requests with more values (of texts: characters) than this are predicted in a thread, so that
probes are answered meanwhile.
"""

_PLATFORMS = {
    ArtifactFormat.ONNX: "onnxruntime_onnx",
    ArtifactFormat.SKOPS: "sklearn_skops",
    ArtifactFormat.RULES: "slipway_rules",
    ArtifactFormat.JOBLIB: "sklearn_joblib",
}


class SlipwayModel(MLModel):  # type: ignore[misc]  # MLServer comes without types
    """Serves the artifact in ``parameters.uri``; ``parameters.extra`` is what the storage
    initializer wrote.

    Each request is checked with the signature before the model sees it.
    """

    def __init__(self, settings: ModelSettings, threads: int = 1) -> None:
        super().__init__(settings)
        self._threads = threads
        self._artifact: Artifact
        self._predictor: Predictor
        self._answer: Predict = self._predict

    async def load(self) -> bool:
        """Raises Refused when the artifact cannot be served."""
        said = self.settings.parameters.extra
        self._artifact = Artifact.read(
            Path(self.settings.parameters.uri), ArtifactFormat(said["format"])
        )
        self._predictor = self._artifact.load(self._threads)
        self._outputs = {column.name: column for column in self.signature.outputs}
        if Batches.wanted(self.settings):
            self._answer = Batches(self.settings, self.signature, self._predict)
        return True

    @property
    def signature(self) -> Signature:
        return self._artifact.signature

    async def metadata(self) -> MetadataModelResponse:
        """V2 metadata from the signature; ``parameters`` tell which artifact this is, its origin,
        an example, its card.
        """
        said = self.settings.parameters.extra
        told = {
            **self._artifact.provenance,
            **{key: said[key] for key in ("registeredModel", "digest") if key in said},
        }
        if self._artifact.example is not None:
            told["example"] = self._artifact.example
        if self._artifact.card is not None:
            told[CARD] = self._artifact.card
        return MetadataModelResponse(
            name=self.name,
            versions=[self.version] if self.version else [],
            platform=_PLATFORMS[self._artifact.format],
            inputs=[_metadata(column) for column in self.signature.inputs],
            outputs=[_metadata(column) for column in self.signature.outputs],
            parameters=Parameters(**told, version=self.version),
        )

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Raises InvalidInput naming the input or output that is wrong, MalformedRequest when data
        is no list.
        """
        is_large = sum(len(item.data.root) for item in payload.inputs) > INLINE_VALUES
        tensors = await run(is_large, self._checked, payload)
        wanted = [output.name for output in payload.outputs or ()] or list(self._outputs)
        self.signature.check_outputs(wanted)
        return InferenceResponse(
            model_name=self.name,
            model_version=self.version,
            outputs=await self._answer(tensors, wanted),
        )

    def _checked(self, payload: InferenceRequest) -> list[Tensor]:
        tensors = contract_tensors(payload.inputs)
        self.signature.check(tensors)
        return tensors

    async def _predict(
        self, tensors: Sequence[Tensor], wanted: Sequence[str]
    ) -> list[ResponseOutput]:
        if sum(map(_values, tensors)) > INLINE_VALUES:
            return await asyncio.to_thread(self._run, tensors, wanted)
        return self._run(tensors, wanted)

    def _run(self, tensors: Sequence[Tensor], wanted: Sequence[str]) -> list[ResponseOutput]:
        by_name = {tensor.name: tensor for tensor in tensors}
        arrays = {
            column.name: to_array(by_name[column.name], column) for column in self.signature.inputs
        }
        given = self._predictor.run(arrays, wanted)
        rows = len(next(iter(arrays.values())))
        return [to_output(given[name], self._outputs[name], rows) for name in wanted]


def _values(tensor: Tensor) -> int:
    return sum(map(len, tensor.data)) if tensor.datatype is Datatype.BYTES else len(tensor.data)


def _metadata(column: Column) -> MetadataTensor:
    return MetadataTensor.model_validate(column.metadata.model_dump(mode="json", exclude_none=True))
