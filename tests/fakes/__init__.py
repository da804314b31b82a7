"""Servers that behave as the real ones do, quirks and faults included: what the adversarial tests run against."""

from tests.fakes.cloudwatch import Call, FakeCloudWatch
from tests.fakes.faults import Fault, Faults
from tests.fakes.sts import Role

__all__ = ["Call", "FakeCloudWatch", "Fault", "Faults", "Role"]
