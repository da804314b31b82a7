"""CloudWatch Logs as discovery asks it: which log groups are there, and where execution lines are delivered to.

Each call becomes facts here; nothing is kept, nothing is judged, and no log line is read.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from itertools import groupby
from typing import TYPE_CHECKING

from exporter.discovery.calls import Caller
from exporter.discovery.stages import Delivery, GroupFacts, StageKey, group_of_arn

if TYPE_CHECKING:
    from mypy_boto3_logs import CloudWatchLogsClient
    from mypy_boto3_logs.type_defs import (
        DeliveryDestinationTypeDef,
        DeliverySourceTypeDef,
        DeliveryTypeDef,
        DescribeDeliveriesRequestTypeDef,
        DescribeDeliveryDestinationsRequestTypeDef,
        DescribeDeliverySourcesRequestTypeDef,
        DescribeLogGroupsRequestTypeDef,
        LogGroupTypeDef,
    )

_PAGE = 50
_STAGE_ARN = re.compile(r"arn:[\w-]+:apigateway:[^/]*/(?:restapis|apis)/(?P<id>[^/]+)/stages/(?P<stage>[^/]+)")
_PREFIXES = ("API-Gateway-Execution-Logs_", "/aws/apigateway/")
"""What the names of API Gateway's own groups begin with, whatever API they belong to."""


class LogGroups:
    """The log groups of one account and region. Every method raises `CallFailed`."""

    def __init__(self, client: "Callable[[], CloudWatchLogsClient]", caller: Caller) -> None:
        self._client = client
        self._caller = caller

    def look_up(self, names: Collection[str]) -> tuple[Mapping[str, GroupFacts | None], str | None]:
        """What is known of each group, None for one that is not there; and the ARN of any group that was met.

        Names that begin alike are listed together, so that 200 stages do not cost 200 calls; where a prefix is shared
        with more groups than that saves, the rest is looked up one by one.
        """
        met: dict[str, LogGroupTypeDef] = {}
        for prefix, members in groupby(sorted(names, key=lambda name: (_prefix(name), name)), key=_prefix):
            wanted = list(members)
            listed_to = self._list(prefix, wanted, met) if len(wanted) > 1 else ""
            for name in wanted:
                if name > listed_to:
                    self._list(name, [name], met)
        facts = {name: group_facts(met[name]) if name in met else None for name in names}
        return facts, next((group["arn"] for group in met.values() if "arn" in group), None)

    def deliveries(self) -> Mapping[StageKey, Delivery]:
        """Where execution lines go that do not go to the groups API Gateway manages (vended logs)."""
        stage_by_source = {
            source["name"]: stage
            for source in self._caller.list_all("DescribeDeliverySources", self._sources)
            if source.get("logType") == "EXECUTION_LOGS" and source.get("status") != "INACTIVE" and "name" in source
            for arn in source.get("resourceArns", [])
            if (stage := _STAGE_ARN.fullmatch(arn))
        }
        if not stage_by_source:
            return {}
        destinations = {
            destination["arn"]: destination
            for destination in self._caller.list_all("DescribeDeliveryDestinations", self._destinations)
            if "arn" in destination
        }
        groups: defaultdict[StageKey, set[str]] = defaultdict(set)
        elsewhere: defaultdict[StageKey, set[str]] = defaultdict(set)
        for delivery in self._caller.list_all("DescribeDeliveries", self._deliveries):
            stage = stage_by_source.get(delivery.get("deliverySourceName", ""))
            if stage is None:
                continue
            key = (stage["id"], stage["stage"])
            destination = destinations.get(delivery.get("deliveryDestinationArn", ""))
            target = (destination or {}).get("deliveryDestinationConfiguration", {}).get("destinationResourceArn", "")
            group = group_of_arn(target)
            if group is not None:
                groups[key].add(group)
            else:
                # A destination that is not listed here belongs to another account.
                elsewhere[key].add(delivery.get("deliveryDestinationType", "CWL"))
        return {
            key: Delivery(groups=tuple(sorted(groups[key])), elsewhere=tuple(sorted(elsewhere[key])))
            for key in {*groups, *elsewhere}
        }

    def _list(self, prefix: str, wanted: list[str], met: "dict[str, LogGroupTypeDef]") -> str:
        """List what begins with `prefix`, in no more pages than there are names wanted; the name it came to."""
        request: DescribeLogGroupsRequestTypeDef = {"limit": _PAGE}
        if prefix:
            request["logGroupNamePrefix"] = prefix
        last = ""
        for _ in wanted:
            answer = self._caller.ask("DescribeLogGroups", lambda: self._client().describe_log_groups(**request))
            # AWS sorts by ASCII: behind the last name wanted there is nothing to look for.
            for group in answer.get("logGroups", []):
                last = group.get("logGroupName", last)
                met[last] = group
            token = answer.get("nextToken")
            if not token or last >= wanted[-1]:
                return wanted[-1]
            request["nextToken"] = token
        return last

    def _sources(self, token: str | None) -> "tuple[list[DeliverySourceTypeDef], str | None]":
        request: DescribeDeliverySourcesRequestTypeDef = {"limit": _PAGE}
        if token is not None:
            request["nextToken"] = token
        answer = self._client().describe_delivery_sources(**request)
        return answer.get("deliverySources", []), answer.get("nextToken")

    def _destinations(self, token: str | None) -> "tuple[list[DeliveryDestinationTypeDef], str | None]":
        request: DescribeDeliveryDestinationsRequestTypeDef = {"limit": _PAGE}
        if token is not None:
            request["nextToken"] = token
        answer = self._client().describe_delivery_destinations(**request)
        return answer.get("deliveryDestinations", []), answer.get("nextToken")

    def _deliveries(self, token: str | None) -> "tuple[list[DeliveryTypeDef], str | None]":
        request: DescribeDeliveriesRequestTypeDef = {"limit": _PAGE}
        if token is not None:
            request["nextToken"] = token
        answer = self._client().describe_deliveries(**request)
        return answer.get("deliveries", []), answer.get("nextToken")


def _prefix(name: str) -> str:
    known = next((prefix for prefix in _PREFIXES if name.startswith(prefix)), None)
    return known or name[: max(name.rfind("/"), name.rfind("_")) + 1]


def group_facts(group: "LogGroupTypeDef") -> GroupFacts:
    """What CloudWatch Logs says of a group."""
    return GroupFacts(
        created_at_ms=group.get("creationTime"),
        retention_days=group.get("retentionInDays"),
        stored_bytes=group.get("storedBytes"),
    )
