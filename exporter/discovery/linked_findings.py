"""What cannot be known of stages in linked accounts, and what they lack as far as names of log groups tell.

Pure, like `findings.py`, whose kinds and severities it shares.
"""

from collections.abc import Iterator, Sequence

from exporter.config.sections import LinkedAccounts
from exporter.discovery.findings import Finding, FindingKind, Said, of_access, of_problem, of_sharing, sharers_of
from exporter.discovery.linked import LinkedSurvey
from exporter.discovery.linking import silent_accounts
from exporter.discovery.watching import LEAST_MAX_REQUEST_MS, StageLogs


def linked_findings(survey: LinkedSurvey, found: Sequence[StageLogs], linked: LinkedAccounts) -> Iterator[Finding]:
    """Everything there is to say about the accounts linked to one. `found`: their stages."""
    for kind, text in _of_accounts(survey, linked):
        yield Finding(kind=kind, account=survey.account, region=survey.region, api=None, text=text)
    sharers = sharers_of(found)
    for item in found:
        for kind, text in (*_of_stage(item, linked), *of_sharing(item, sharers)):
            yield Finding(kind=kind, account=item.account, region=item.api.region, api=item.api, text=text)


def _of_accounts(survey: LinkedSurvey, linked: LinkedAccounts) -> Iterator[Said]:
    for problem in survey.problems:
        yield of_problem(problem)
    for account_id in silent_accounts(survey, linked):
        text = f"no log group of an API in account {account_id} is seen from here; is it linked to this account,"
        yield FindingKind.NOT_LINKED, f"{text} and does the link share log groups?"


def _of_stage(item: StageLogs, linked: LinkedAccounts) -> Iterator[Said]:
    of_whom = f"it is read through the monitoring account, and API Gateway in account {item.owner} cannot be asked"
    longest_s = max(LEAST_MAX_REQUEST_MS, linked.max_request_ms) // 1000
    name = "" if item.api.name != item.api.id else "the API's name, "
    form = "the format of its access lines, " if item.access is not None and item.format == "auto" else ""
    text = f"{of_whom}: {name}{form}its log level and its integrations' timeout are not known"
    advice = "say them in discover.linked_accounts, or list the stage under `watches` by its ARNs"
    yield FindingKind.LINKED, f"{text} (requests are taken to last {longest_s} seconds at most); {advice}"
    if item.access is None:
        text = "no log group is found that takes its access lines: its failures are counted from execution lines alone"
        advice = "say how such groups are called in discover.linked_accounts.access_logs"
        yield FindingKind.NO_ACCESS_LOG, f"{text}; {advice}"
    else:
        yield from of_access(item)
    if item.unread:
        text = f"other log groups fit its access log, too, and are not read: {', '.join(item.unread)}"
        yield FindingKind.SHARED_GROUP, f"{text}; make discover.linked_accounts.access_logs narrower"
    if item.execution is None and item.api.type != "HTTP":
        text = "it has no execution log group: causes are told from the access line alone"
        yield FindingKind.EXECUTION_OFF, f"{text}; set the stage's log level to ERROR, or INFO for the whole story"
