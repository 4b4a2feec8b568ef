"""`gapcheck tables`: what runs say, as the paper prints it or in full."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(
    epilog="Example: gapcheck tables runs/bench --as table1 --row tiny:lavit='LaViT 3B' --format latex > table1.tex"
)
@click.argument("runs", nargs=-1, required=True, metavar="RUN...", type=click.Path(path_type=Path))
@click.option(
    "--as", "kind", type=click.Choice(["table1", "table2", "table3", "tableA2"]), help="A table of the paper."
)
@click.option("--format", "layout", type=click.Choice(["md", "latex", "csv", "html"]), default="md", show_default=True)
@click.option("--row", "rows", multiple=True, metavar="MODEL=ROW", help="Published row of a model; may be repeated.")
@click.option("--baseline", metavar="MODEL", help="The model that gains of ours are over.")
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE", help="Write there instead of the terminal.")
def command(
    runs: tuple[Path, ...], kind: str | None, layout: str, rows: tuple[str, ...], baseline: str | None, out: Path | None
) -> None:
    """Tables of RUNs (folders of analyze, compare, bench, ablate, train), every figure with its interval and n.

    With --as in the layout of the paper: its rows and columns, best bold and second underlined, ours / published /
    difference below each other, a star for what the paper took from elsewhere, a footnote for what does not recompute.
    Hub ids and presets find their published rows; --row says it for other models. Exit status: 2 where the runs have
    nothing for the table.
    """
    from perception_gap.cli.output import TABLES, check_writable
    from perception_gap.errors import UsageError
    from perception_gap.runs.run import Run
    from perception_gap.storage.files import write_text
    from reports import tables
    from reports.sources import open_sources, teacher_or_reason

    if kind is None and (rows or baseline):
        raise UsageError(f"{'--row' if rows else '--baseline'} belongs to a table of the paper; add --as table1")
    if baseline is not None and (kind == "table2" or not baseline.strip()):
        raise UsageError(
            f"--baseline {baseline!r}: expected a model, of table1, table3 or tableA2; table2 has no gains"
        )
    if out is not None:
        check_writable(out, ours=TABLES)
    published_rows = {}
    for given in rows:
        model, equals, row = given.partition("=")
        if not (model and equals and row):
            raise UsageError(f"--row {given!r}: expected MODEL=ROW, such as tiny:lavit='LaViT 3B'")
        if model in published_rows:
            raise UsageError(f"--row {given!r}: {model} is given twice; expected each model once")
        published_rows[model] = row
    sources = open_sources(runs)
    for source in sources:
        if isinstance(source, Run) and (gone := teacher_or_reason(source)[1]):
            click.echo(f"note: {gone}; the tables are without it", err=True)
    text = tables.render(tables.build(kind, sources, rows=published_rows, baseline=baseline), layout)
    if out is None:
        click.echo(text, nl=False)
        return
    write_text(out, text, follow=True)
    click.echo(out)
