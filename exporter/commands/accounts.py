"""What commands that ask AWS share: the accounts of a configuration, and one look at what is in them."""

import threading
import time

from exporter.config import Config
from exporter.discovery import Discovered, Discovery
from exporter.metrics.self_metrics import SelfMetrics
from exporter.places import Places
from exporter.version import VERSION


class Accounts:
    """The places of a configuration, for as long as a command runs."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._metrics = SelfMetrics(version=VERSION, now_ms=lambda: int(time.time() * 1000))
        self._stop = threading.Event()
        self.places = Places(config.accounts, self._metrics, self._stop)

    def discovered(self) -> Discovered | None:
        """Look once at what is there; None where the configuration does not ask for it."""
        if self._config.discover is None:
            return None
        return Discovery(
            self._config,
            self._config.discover,
            open_session=self.places.session,
            logs_budget=self.places.budget,
            on_call=self.places.count,
            wait=self._stop.wait,
            clock=time.time,
            ticks=time.monotonic,
        ).refresh()

    @property
    def calls(self) -> int:
        """How often AWS was asked, refusals included."""
        samples = (sample for metric in self._metrics.aws_requests.collect() for sample in metric.samples)
        return int(sum(sample.value for sample in samples if sample.name.endswith("_total")))

    def close(self) -> None:
        """Close all connections."""
        self.places.close()
