"""`gapcheck published`: the figures that papers printed, and what of them recomputes."""

from __future__ import annotations

import csv
import sys

import click

_PLACE = ("paper", "table", "row", "column")
CHECK = (*_PLACE, "kind", "what", "printed", "recomputed", "unit", "agrees", "starred", "remark")


@click.command(epilog="Example: gapcheck published lavit --table table1 --table table2")
@click.argument("papers", nargs=-1, metavar="[PAPER|FILE.toml]...")
@click.option("--table", "tables", multiple=True, metavar="ID", help="This table only; may be repeated.")
@click.option("--check", is_flag=True, help="Every recomputation, and gains that are not printed, without the tables.")
@click.option("--format", "layout", type=click.Choice(["md", "csv"]), default="md", show_default=True)
def command(papers: tuple[str, ...], tables: tuple[str, ...], check: bool, layout: str) -> None:
    """List published figures as printed, then those that do not follow from the others, with both values.

    A star marks a figure that the paper took from elsewhere. Adding a paper is one file: docs/published.md.
    """
    from benchmarks import published
    from benchmarks.published.markdown import report
    from perception_gap.storage.spreadsheet import escaped

    loaded = [published.load(paper) for paper in papers or published.papers()]
    if layout == "md":
        click.echo("\n\n".join(report(paper, tables or None, everything=check) for paper in loaded))
        return
    if check:
        checks = [each for paper in loaded for each in published.checks(paper, tables or None)]
        rows = [{name: getattr(each, name) for name in CHECK} for each in checks]
    else:
        rows = [record for paper in loaded for record in published.records(paper, tables or None)]
    fields = dict.fromkeys((*(CHECK if check else published.RECORD), *(key for row in rows for key in row)))
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(map(escaped, fields))
    writer.writerows([escaped(row.get(name, "")) for name in fields] for row in rows)
