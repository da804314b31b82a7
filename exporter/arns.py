"""ARNs of log groups: read, written, and what they say of whose a group is.

A log group belongs to an account, and there it has a name; an ARN says both. In an account of one's own a group is
asked for by its name; through a monitoring account (CloudWatch cross-account observability) only by its ARN. Pure.
"""

import re
from typing import Final, NamedTuple

_LOG_GROUP: Final = re.compile(
    r"arn:(?P<partition>aws[\w-]*):logs:(?P<region>[a-z0-9-]*):(?P<account_id>\d{12})?:log-group:"
    r"(?P<name>[.\-_/#A-Za-z0-9]{1,512})(?::\*)?",
    re.ASCII,
)
_ACCOUNT: Final = re.compile(r"arn:[\w-]+:[a-z0-9-]+:[a-z0-9-]*:(\d{12}):", re.ASCII)
_ACCOUNT_ID: Final = re.compile(r"\d{12}", re.ASCII)
_PARTITIONS: Final = (("cn-", "aws-cn"), ("us-gov-", "aws-us-gov"), ("eusc-", "aws-eusc"))


class LogGroupArn(NamedTuple):
    """What the ARN of a log group says."""

    region: str
    account_id: str | None
    """12 digits; None where the ARN leaves them out."""
    name: str

    def __str__(self) -> str:
        """As `logGroupIdentifier` takes it: without `:*`."""
        return f"arn:{partition_of(self.region)}:logs:{self.region}:{self.account_id or ''}:log-group:{self.name}"


def read_log_group_arn(text: str) -> LogGroupArn | None:
    """What the ARN of a log group says, whether it ends in `:*` or not; None for what is no such ARN."""
    match = _LOG_GROUP.fullmatch(text)
    return None if match is None else LogGroupArn(match["region"], match["account_id"], match["name"])


def is_account_id(text: str) -> bool:
    """Whether a text is the id of an AWS account."""
    return _ACCOUNT_ID.fullmatch(text) is not None


def account_of_arn(arn: str) -> str | None:
    """The 12 digits of the account in any ARN."""
    match = _ACCOUNT.match(arn)
    return match[1] if match else None


def partition_of(region: str) -> str:
    """The part of AWS that a region belongs to: the second word of its ARNs."""
    return next((partition for prefix, partition in _PARTITIONS if region.startswith(prefix)), "aws")
