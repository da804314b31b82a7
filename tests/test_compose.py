"""The docker-compose example: what it mounts exists and the real tools take it. No Docker engine runs it here."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import promql_parser as promql
import pytest
import yaml

from exporter.metrics import PRODUCT

ROOT = Path(__file__).parent.parent
COMPOSE = ROOT / "deploy/compose"
SERVICES = yaml.safe_load((COMPOSE / "docker-compose.yaml").read_text())["services"]
DATASOURCES = ROOT / "config/grafana/provisioning/datasources"
STORES = ["tempo", "jaeger"]


def mounts(service: str, store: str = "tempo") -> dict[Path, Path]:
    """What a service finds in its container, and where that comes from."""
    found = {}
    for volume in SERVICES[service].get("volumes", []):
        source, target, mode = volume.replace("${COMPOSE_PROFILES}", store).split(":")
        assert mode == "ro"
        found[Path(target)] = (COMPOSE / source).resolve()
    return found


def container(service: str, directory: Path) -> Path:
    """A directory that looks like a service's container."""
    for target, source in mounts(service).items():
        place = directory / target.relative_to("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, place)
        else:
            shutil.copy(source, place)
    return directory


def provisioned(store: str) -> dict[str, Any]:
    """The datasources of Grafana, by their uid."""
    parsed = yaml.safe_load((DATASOURCES / f"{store}.yaml").read_text())
    return {source["uid"]: source for source in parsed["datasources"]}


def run(*command: str | Path) -> None:
    program = shutil.which(str(command[0]))
    assert program is not None, (
        f"{command[0]} is not installed (on Debian: apt install prometheus prometheus-alertmanager)"
    )
    ended = subprocess.run([program, *map(str, command[1:])], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("service", SERVICES)
def test_everything_that_is_mounted_exists(service, store):
    for source in mounts(service, store).values():
        assert source.exists()


def test_images_are_pinned_and_ports_stay_on_this_machine():
    for name, service in SERVICES.items():
        assert "build" in service or re.fullmatch(r"[\w./-]+:v?\d+\.\d+\.\d+", service["image"]), name
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:")


@pytest.mark.servers
def test_prometheus_takes_its_configuration_and_our_rules(tmp_path):
    root = container("prometheus", tmp_path)
    run("promtool", "check", "config", root / "etc/prometheus/prometheus.yaml")
    loaded = yaml.safe_load((root / "etc/prometheus/prometheus.yaml").read_text())["rule_files"]
    assert {f"/etc/prometheus/{name}" for name in loaded} < {str(target) for target in mounts("prometheus")}


@pytest.mark.servers
def test_alertmanager_takes_its_configuration(tmp_path):
    run("amtool", "check-config", container("alertmanager", tmp_path) / "etc/alertmanager/alertmanager.yaml")


def test_prometheus_keeps_exemplars_and_scrapes_the_exporter_where_it_listens():
    assert "--enable-feature=exemplar-storage" in SERVICES["prometheus"]["command"]
    config = yaml.safe_load((COMPOSE / "prometheus.yaml").read_text())
    [scrape] = config["scrape_configs"]
    [target] = scrape["static_configs"][0]["targets"]
    assert target == "exporter:10610"
    listening = (COMPOSE / "demo.Dockerfile").read_text().splitlines()[-1]
    assert "0.0.0.0:10610" in listening
    [alertmanager] = config["alerting"]["alertmanagers"]
    assert alertmanager["static_configs"][0]["targets"] == ["alertmanager:9093"]


@pytest.mark.parametrize("store", STORES)
def test_traces_go_to_the_store_of_the_profile_that_is_chosen(store):
    assert SERVICES["exporter"]["environment"]["OTEL_EXPORTER_OTLP_ENDPOINT"] == "http://traces:4318"
    assert SERVICES[store]["profiles"] == [store]
    assert SERVICES[store]["networks"]["default"]["aliases"] == ["traces"]
    assert f"//{store}:" in provisioned(store)[store]["url"]
    assert f"COMPOSE_PROFILES={STORES[0]}" in (COMPOSE / ".env").read_text()


@pytest.mark.parametrize("store", STORES)
def test_metrics_and_traces_lead_to_each_other(store):
    sources = provisioned(store)
    assert {source["type"] for source in sources.values()} == {"prometheus", store}
    [link] = sources["prometheus"]["jsonData"]["exemplarTraceIdDestinations"]
    assert (link["name"], link["datasourceUid"]) == ("trace_id", store)
    back = sources[store]["jsonData"]["tracesToMetrics"]
    assert back["datasourceUid"] == "prometheus"
    tags = {tag["value"] for tag in back["tags"]}
    labels = {metric.name: set(metric.labels) for metric in PRODUCT}
    for query in back["queries"]:
        # Provisioning reads a lone $ as an environment variable.
        expr = query["query"].replace("$$__tags", 'api_name="orders"')
        assert "$" not in expr
        promql.parse(expr)
        [metric] = re.findall(r"aws_\w+", expr)
        assert tags <= labels[metric]


def test_grafana_finds_the_dashboard_where_its_provider_looks():
    targets = mounts("grafana")
    home = Path(SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert targets[home] == ROOT / "config/grafana/apigateway-exporter.json"
    provider = ROOT / "config/grafana/provisioning/dashboards/apigateway-exporter.yaml"
    [described] = yaml.safe_load(provider.read_text())["providers"]
    assert Path(described["options"]["path"]) == home.parent
