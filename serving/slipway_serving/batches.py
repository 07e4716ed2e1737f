"""Adapter of MLServer's adaptive batching: concurrent requests are predicted together."""

from collections.abc import Awaitable, Callable, Sequence

from mlserver import ModelSettings
from mlserver.batching.adaptive import AdaptiveBatcher
from mlserver.types import InferenceRequest, InferenceResponse, RequestInput, ResponseOutput
from slipway_contract.signature import Signature
from slipway_contract.v2 import Tensor

from slipway_serving.tensors import contract_tensors

Predict = Callable[[Sequence[Tensor], Sequence[str]], Awaitable[list[ResponseOutput]]]
"""Predicts from validated tensors; returns the named outputs, in their order."""


class Batches:
    """A ``Predict`` that collects concurrent requests and runs one prediction for all of them.

    MLServer batches requests before validation, so that one invalid request fails the others, and
    one that asks for fewer outputs determines the outputs of all. Here only validated requests are
    batched; each is computed in full, and its outputs are selected afterwards.
    """

    def __init__(self, settings: ModelSettings, signature: Signature, predict: Predict) -> None:
        self.settings = settings
        self._signature = signature
        self._predict = predict
        self._outputs = [column.name for column in signature.outputs]
        # The batcher reads size and time from `settings` and calls `predict`.
        self._batcher = AdaptiveBatcher(self)

    @staticmethod
    def are_enabled(settings: ModelSettings) -> bool:
        """Return whether the settings enable batching: size above 1, time above 0 seconds."""
        return bool(settings.max_batch_size > 1 and settings.max_batch_time > 0)

    async def __call__(
        self, tensors: Sequence[Tensor], outputs: Sequence[str]
    ) -> list[ResponseOutput]:
        by_name = {tensor.name: tensor for tensor in tensors}
        inputs = [
            RequestInput.model_construct(
                name=column.name,
                shape=[by_name[column.name].shape[0], *column.shape],
                datatype=column.datatype.value,
                data=by_name[column.name].data,
            )
            for column in self._signature.inputs
        ]
        response = await self._batcher.predict(InferenceRequest.model_construct(inputs=inputs))
        given = {output.name: output for output in response.outputs}
        return [given[name] for name in outputs]

    async def predict(self, batch: InferenceRequest) -> InferenceResponse:
        """Return all outputs of a batch. MLServer's batcher calls it."""
        outputs = await self._predict(contract_tensors(batch.inputs), self._outputs)
        return InferenceResponse(model_name=self.settings.name, outputs=outputs)
