"""A report as Markdown, for papers, issues and notebooks; its charts are picture files."""

from analysis.report.content import Block, Figure, Report, Statement, TableBlock, heading

__all__ = ["to_markdown"]


def to_markdown(report: Report, pictures: str) -> str:
    """Render a report; the table of single trials is left to the HTML.

    Args:
        report: The report.
        pictures: Folder of the charts' pictures, `<name>.png`, relative to the file.
    """
    lines = [f"# {report.study}", "", _escape(report.description), ""]
    lines += [f"- {_escape(statement.text)}" for statement in report.answer]
    for section in report.sections:
        body = [line for block in section.blocks for line in _block(block, pictures)]
        if body:
            lines += ["", f"## {section.title}", "", *body]
    lines += ["", "## Spec and versions", ""]
    lines += [", ".join(f"{name} {version}" for name, version in report.versions.items()), ""]
    lines += ["```yaml", report.spec.rstrip(), "```", ""]
    return "\n".join(lines)


def _block(block: Block, pictures: str) -> list[str]:
    if isinstance(block, Statement):
        return [_escape(block.text), ""]
    if isinstance(block, Figure):
        return [
            f"![{block.name}]({pictures}/{block.name}.png)",
            "",
            f"*{_escape(block.caption)}*",
            "",
        ]
    if isinstance(block, TableBlock):
        return [f"{_escape(block.caption)}", "", *_table(block), ""]
    return []


def _table(block: TableBlock) -> list[str]:
    rows = [[heading(name) for name in block.frame.columns]]
    rows.append(["---"] * len(block.frame.columns))
    rows += [[_escape(cell) for cell in row] for row in block.cells()]
    return ["| " + " | ".join(row) + " |" for row in rows]


def _escape(text: str) -> str:
    """Keep what Markdown would take for a table's border, emphasis or a line break."""
    for mark in ("\\", "|", "*", "_", "<", "`"):
        text = text.replace(mark, f"\\{mark}")
    return " ".join(text.split())
