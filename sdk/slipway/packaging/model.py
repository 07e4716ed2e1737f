"""A packaged model: its served file, signature and predictions."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from slipway_contract.registry import ArtifactFormat
from slipway_contract.signature import Signature

from slipway.errors import Refused
from slipway.packaging.parity import Parity
from slipway.packaging.rows import Arrays, check_outputs

_EQUAL = 1e-4


@dataclass(frozen=True)
class PackagedModel:
    """A packaged model; ``content`` is the model file that is served."""

    form: ArtifactFormat
    content: bytes
    signature: Signature
    predict_rows: Callable[[Arrays], Arrays]
    """Returns the served outputs for inputs, both by name, [rows, *shape]."""
    origin: str
    """A sentence of the model card with the kind of the file and its conversion."""
    parity: Parity | None = None
    """The comparison of the served model with the given one, where these differ."""
    caveat: str = ""
    """A reason for differences from expected outputs other than the model."""

    def check_outputs(self, rows: Arrays) -> Arrays:
        """Return the outputs for the rows; raise Refused unless they fit the signature.

        Datatypes, bounds and codes are checked.
        """
        outputs = self.predict_rows(rows)
        check_outputs(self.signature, outputs, len(next(iter(rows.values()))))
        return outputs

    def check_samples(self, samples: Iterable[Arrays]) -> None:
        """Raise Refused unless the outputs of all samples fit, each row's alone as well."""
        for rows in samples:
            self.check_rows(rows, self.check_outputs(rows))

    def check_rows(self, rows: Arrays, together: Arrays | None = None) -> None:
        """Raise Refused when the outputs of a row depend on other rows. Needs two rows or more.

        ``together`` are the outputs for the rows, if they are known.
        """
        together = together or self.predict_rows(rows)
        alone = self.predict_rows({name: array[:1] for name, array in rows.items()})
        for name, array in alone.items():
            beside = together[name][:1]
            equal = (
                np.allclose(beside, array, _EQUAL, _EQUAL, equal_nan=True)
                if array.dtype.kind == "f"
                else (beside == array).all()
            )
            if not equal:
                raise Refused(
                    f"output {name!r} of a row depends on other rows, or changes from call to "
                    "call: rows must be independent"
                )
