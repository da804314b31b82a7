"""Discovery: API Gateway and log groups -> watches, and what the account lacks for its failures to be told.

`gateways.py` and `log_groups.py` turn AWS calls into facts (`stages.py`), paced and retried by `calls.py`; `place.py`
keeps them, so that a failed call loses nothing; `selection.py`, `watching.py`, `findings.py` and `forecast.py` are pure
and say what follows; `discovery.py` puts it together for the daemon, `probe.py` for `check-config --probe`.
"""

from exporter.discovery.discovery import Discovered, Discovery
from exporter.discovery.findings import Finding, FindingKind, Severity
from exporter.discovery.forecast import PlaceForecast, Volume, WatchForecast
from exporter.discovery.probe import GroupProbe, ProbeReport, WatchProbe, probe, render

__all__ = [
    "Discovered",
    "Discovery",
    "Finding",
    "FindingKind",
    "GroupProbe",
    "PlaceForecast",
    "ProbeReport",
    "Severity",
    "Volume",
    "WatchForecast",
    "WatchProbe",
    "probe",
    "render",
]
