"""`test-rules`: runs the tests that stand beside the rules."""

from pathlib import Path

import click

from exporter.access_log import AccessFormatError
from exporter.commands.options import fail
from exporter.excerpt.rule_check import RuleReport, check_rules
from exporter.rules import RulesError, shipped_rules, shipped_text


@click.command("test-rules")
@click.argument("files", type=click.Path(exists=True, dir_okay=False), nargs=-1)
def test_rules(files: tuple[str, ...]) -> None:
    """Run the tests that stand beside the rules: those of FILES, or the shipped ones.

    Also names rules that no test proves, and rules that others in front of them shadow. Exit code 1 if any test fails
    or a rule is unproven.
    """
    good = True
    try:
        if not files:
            good = _tell_rules("shipped rules", check_rules(shipped_text(), source="rules.yaml"))
        for name in files:
            text = Path(name).read_text(encoding="utf-8")
            good = _tell_rules(name, check_rules(text, source=name, extends=shipped_rules())) and good
    except (RulesError, AccessFormatError, UnicodeDecodeError) as error:
        fail(str(error))
    if not good:
        raise SystemExit(1)


def _tell_rules(name: str, report: RuleReport) -> bool:
    for result in report.results:
        if result.problem is not None:
            click.echo(f"{name}: rule `{result.test.rule}`, test `{result.test.name}`: {result.problem}")
    for rule in report.unproven:
        click.echo(f"{name}: rule `{rule}`: no test of it proves that it ever matches; give it one that it decides")
    for rule, front in report.shadowed.items():
        click.echo(f"{name}: rule `{rule}` never decides: rule `{front}` stands in front of it and takes its requests")
    failed = sum(result.problem is not None for result in report.results)
    click.echo(f"{name}: {len(report.results) - failed} passed, {failed} failed")
    return report.is_good
