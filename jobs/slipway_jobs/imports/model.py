"""A model file that was understood: what is served of it, and how it answers."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from slipway_contract.registry import ArtifactFormat
from slipway_contract.signature import Signature

from slipway_jobs.errors import Refused
from slipway_jobs.imports.parity import Parity
from slipway_jobs.imports.rows import Arrays, check_answer

_EQUAL = 1e-4


@dataclass(frozen=True)
class ImportedModel:
    """``content`` is the model file that is served."""

    form: ArtifactFormat
    content: bytes
    signature: Signature
    answer: Callable[[Arrays], Arrays]
    """From inputs to outputs as they are served, both by name, [rows, *shape]."""
    origin: str
    """What kind of file it was, and what was made of it; a sentence of the model card."""
    parity: Parity | None = None
    """Of what is served with what was given, where these are not the same."""
    caveat: str = ""
    """Why a difference from expected outputs may not be the model's fault."""

    def check_answer(self, rows: Arrays) -> Arrays:
        """Return the outputs for these rows; raise Refused unless they have the datatypes, bounds
        and codes of the signature.
        """
        answer = self.answer(rows)
        check_answer(self.signature, answer, len(next(iter(rows.values()))))
        return answer

    def check_rows(self, rows: Arrays) -> None:
        """Raise Refused when the answer to a row is another one with other rows beside it. Needs
        two rows or more.
        """
        together = self.answer(rows)
        alone = self.answer({name: array[:1] for name, array in rows.items()})
        for name, array in alone.items():
            beside = together[name][:1]
            equal = (
                np.allclose(beside, array, _EQUAL, _EQUAL, equal_nan=True)
                if array.dtype.kind == "f"
                else (beside == array).all()
            )
            if not equal:
                raise Refused(
                    f"output {name!r} of a row changes with the rows beside it, or from call "
                    "to call: rows must stand alone"
                )
