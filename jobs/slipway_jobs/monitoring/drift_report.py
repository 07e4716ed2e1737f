"""The drift report, as JSON and as an HTML page."""

from collections.abc import Sequence
from datetime import datetime
from html import escape

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from slipway_jobs.monitoring.drift import ALPHA, MAJOR, MISSING_CHANGE, MODERATE, ColumnDrift

STABLE, DRIFT, TOO_FEW = "stable", "drift", "too few rows"

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem }
body { color: #1a1a1a }
table { border-collapse: collapse; width: 100% }
th, td { padding: .3rem .6rem; text-align: left; border-bottom: 1px solid #ddd }
td.n { text-align: right; font-variant-numeric: tabular-nums }
.bar { background: #bbb; height: .7rem; display: inline-block }
tr.drifted { background: #fdecea }
tr.drifted .bar { background: #c62828 }
tr.moderate .bar { background: #ef9a3c }
"""


class DriftReport(BaseModel):
    """The findings of one window."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)

    state: str
    model: str
    version: str
    digest: str
    since: datetime
    until: datetime
    requests: int
    rows: int
    min_rows: int
    unreadable: int
    """Requests without a body in the log, or that do not fit the version's signature."""
    columns: list[ColumnDrift]

    @property
    def drifted(self) -> list[str]:
        return [column.name for column in self.columns if column.drifted]

    def html(self) -> str:
        """Return a self-contained HTML page without scripts."""
        title = escape(f"{self.model}/{self.version}: {self.state}")
        order = sorted(self.columns, key=lambda column: (not column.drifted, -(column.psi or 0)))
        facts = (
            f"{self.rows} rows of {self.requests} requests from {self.since:%Y-%m-%d %H:%M} "
            f"to {self.until:%Y-%m-%d %H:%M} UTC, "
            f"{self.unreadable} unreadable requests. Reference: the training inputs of "
            f"version {self.version}, {self.digest}."
        )
        return (
            '<!doctype html><html lang="en"><head><meta '
            f'charset="utf-8"><title>{title}</title><style>{_STYLE}</style></head>'
            f"<body><h1>{title}</h1><p>{escape(facts)}</p>{self._body(order)}</body></html>\n"
        )

    def _body(self, order: Sequence[ColumnDrift]) -> str:
        if self.state == TOO_FEW:
            return f"<p>The report needs at least {self.min_rows} rows.</p>"
        rule = (
            f"Drift: PSI of {MAJOR} or more, or a change of the missing rate of "
            f"{MISSING_CHANGE:.0%} or more, with a probability by "
            f"chance below {ALPHA} over all inputs together (Holm). A PSI of "
            f"{MODERATE} or more is moderate."
        )
        head = "".join(
            f"<th>{name}</th>"
            for name in ("input", "PSI", "", "change", "p", "missing reference → window", "p")
        )
        return f"<p>{escape(rule)}</p><table><tr>{head}</tr>{''.join(map(_row, order))}</table>"


def _row(column: ColumnDrift) -> str:
    index = "–" if column.psi is None else f"{column.psi:.3f}"
    width = min(column.psi or 0, 1) * 8
    kind = "drifted" if column.drifted else column.level
    missing = f"{column.missing_reference:.1%} → {column.missing_window:.1%}"
    return (
        f'<tr class="{kind}"><td>{escape(column.name)}</td><td class="n">{index}</td>'
        '<td><span class="bar" '
        f'style="width:{width:.2f}rem"></span></td><td>{column.level}</td><td '
        f'class="n">{column.p:.2g}</td>'
        f'<td class="n">{missing}</td><td class="n">{column.missing_p:.2g}</td></tr>'
    )
