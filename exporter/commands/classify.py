"""`classify`: log text in, one verdict per request out."""

import click

from exporter.access_log import AccessFormatError
from exporter.commands.options import contents, fail, load_all_rules
from exporter.excerpt import read_excerpt, render_json, render_text


@click.command()
@click.option("--format", "output", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option(
    "--access-format",
    default="auto",
    show_default=True,
    help="How access lines are written: auto, json, clf, csv, xml, or the stage's own $context format.",
)
@click.option("--rules", "rules", type=click.Path(exists=True, dir_okay=False), multiple=True, help="Own rules.")
@click.argument("files", type=click.Path(exists=True, dir_okay=False, allow_dash=True), nargs=-1)
def classify(output: str, access_format: str, rules: tuple[str, ...], files: tuple[str, ...]) -> None:
    """Say of every request in log text why it failed.

    FILES (or standard input) hold raw access and execution lines, JSON lines of events, or the JSON of
    `aws logs filter-log-events`.
    """
    rule_set = load_all_rules(rules)
    text = "\n".join(contents(name) for name in files or ("-",))
    try:
        excerpt = read_excerpt(text, access_format=access_format)
    except AccessFormatError as error:
        fail(f"--access-format: {error}")
    render = render_json if output == "json" else render_text
    for timeline in excerpt.requests:
        click.echo(render(timeline, rule_set.classify(timeline)))
    if excerpt.unreadable:
        click.echo(f"{excerpt.unreadable} lines are none of API Gateway's, or could not be read", err=True)
