"""The words that the dashboard's queries are made of: whose series, over which range, 0 where nothing happened yet.

Every selector names job and instance, so that a Prometheus may scrape several exporters. Nothing here depends on
recording rules: the dashboard works wherever the exporter is scraped.
"""

# ruff: noqa: INP001  (next to the program that imports it, part of no package)
SCRAPED = 'job=~"$job", instance=~"$instance"'
STAGE = f'{SCRAPED}, api_name=~"$api_name", stage=~"$stage"'
CAUSE = f'{STAGE}, cause=~"$cause"'  # which causes are listed follows from the category

FAILURES = f"aws_apigateway_stage_failures_total{{{CAUSE}}}"
DETAIL = f"aws_apigateway_failed_requests_total{{{CAUSE}}}"
REQUESTS = f"aws_apigateway_requests_total{{{STAGE}}}"

OF_STAGE = "api_id, api_name, stage"


def own(metric: str) -> str:
    """A metric about the exporter itself."""
    return f"aws_apigateway_exporter_{metric}{{{SCRAPED}}}"


def or_zero(total: str) -> str:
    """A sum whose series may not exist yet: 0 then, but nothing while no exporter is scraped at all."""
    return f"{total} or 0 * sum({own('build_info')})"


def rise(counter: str) -> str:
    """How much a counter rose in the time range, everything together.

    A series that was not there before the range has risen by its whole value: increase() would miss its first step,
    and of what is rare there often is no other.
    """
    return or_zero(f"sum(({counter} unless {counter} offset $__range) or increase({counter}[$__range]))")


def rate(counter: str) -> str:
    """How fast a counter rises, a second."""
    return f"rate({counter}[$__rate_interval])"


def a_minute(counter: str, by: str) -> str:
    """How fast a counter rises, a minute, by a label."""
    return f"60 * sum by ({by}) ({rate(counter)})"


def quantile(share: float, histogram: str, matchers: str, by: str = "le") -> str:
    """A quantile of a histogram over time."""
    return f"histogram_quantile({share}, sum by ({by}) (rate({histogram}_bucket{{{matchers}}}[$__rate_interval])))"
