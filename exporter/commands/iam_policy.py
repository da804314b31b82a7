"""`iam-policy`: what AWS has to allow, from the configuration."""

import click

from exporter.commands.options import config_file_option, fail, load
from exporter.iam import IamError, is_too_long, policies, policy_json, policy_terraform


@click.command("iam-policy")
@config_file_option
@click.option("--format", "output", type=click.Choice(["json", "terraform"]), default="json", show_default=True)
@click.option("--identity", help="Whose policy: `own`, `profile:NAME` or a role's ARN. Needed for JSON of several.")
@click.option("--account-id", help="The account that no `role_arn` names; without it ARNs have `*` there.")
@click.option(
    "--access-log-groups",
    "access_groups",
    multiple=True,
    help="How the access log groups are called that discovery will find, e.g. 'access/*'. May be given again.",
)
def iam_policy(
    *, config_file: str, output: str, identity: str | None, account_id: str | None, access_groups: tuple[str, ...]
) -> None:
    """Print the IAM policy that the configuration needs, with no right beyond it. Asks AWS nothing."""
    try:
        found = policies(load(config_file), access_groups=access_groups, account_id=account_id)
    except IamError as error:
        fail(str(error))
    chosen = {name: policy for name, policy in found.items() if identity in (None, name)}
    if not chosen or (output == "json" and len(chosen) > 1):
        fail("choose one with --identity:\n" + "\n".join(found))
    for name, policy in chosen.items():
        click.echo(policy_json(policy) if output == "json" else policy_terraform(name, policy))
        if is_too_long(policy):
            click.echo(f"{name}: too long for a managed policy; make it an inline policy of the role", err=True)
