"""The report: tables in, one page with the answer, the evidence and the trials out."""

from analysis.report.compose import compose_report
from analysis.report.content import Report
from analysis.report.html import to_html
from analysis.report.markdown import to_markdown
from analysis.report.pictures import picture
from analysis.report.training_section import representative_trials

__all__ = [
    "Report",
    "compose_report",
    "picture",
    "representative_trials",
    "to_html",
    "to_markdown",
]
