"""The Helm chart: what it renders to, what it refuses, and that it keeps step with the program it installs.

What is rendered is kept in deploy/helm/tests/golden/, so that most of this file needs no Helm. The tests marked `helm` do,
and fail without it: they render anew. `UPDATE_GOLDEN=1 pytest tests/test_chart.py -m helm` writes the golden files.
"""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml

from exporter.cli import main
from exporter.config import config_schema, load_config
from exporter.daemon import STOP_GRACE_SECONDS
from exporter.rules import load_rules, shipped_rules
from exporter.web import build_app

ROOT = Path(__file__).parent.parent
CHART = ROOT / "deploy" / "helm"
CASES = sorted(path.stem for path in (CHART / "tests" / "values").glob("*.yaml"))
ENVIRON = {"AWS_REGION": "eu-west-1", "EXTERNAL_ID": "kept-in-a-secret"}
# Shown by tests of their own: golden files of them would only repeat config/.
PACKED = ("prometheusrule.yaml", "dashboards.yaml")


def chart_program():
    spec = importlib.util.spec_from_file_location("chart_generate", CHART / "generate.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


generate = chart_program()
VALUES_TEXT = (CHART / "values.yaml").read_text()
VALUES = yaml.safe_load(VALUES_TEXT)
SCHEMA = json.loads((CHART / "values.schema.json").read_text())


def values_of(case):
    return yaml.safe_load((CHART / "tests" / "values" / f"{case}.yaml").read_text())


def golden(case):
    """The objects of a golden file by kind; the chart's own, of each kind at most one, before those of the values."""
    text = (CHART / "tests" / "golden" / f"{case}.yaml").read_text()
    objects = {}
    for document in re.split(r"^---\n", text, flags=re.MULTILINE):
        thing = yaml.safe_load(document)
        if thing and "extra-objects.yaml" not in document:
            assert thing["kind"] not in objects, thing["kind"]
            objects[thing["kind"]] = thing
    return objects


def pod_of(case):
    return golden(case)["StatefulSet"]["spec"]["template"]


def container_of(case):
    return pod_of(case)["spec"]["containers"][0]


# --------------------------------------------------------------------------------------------- in step with its sources


@pytest.mark.parametrize("path", generate.made(), ids=lambda path: str(path.relative_to(CHART)))
def test_what_is_made_is_up_to_date(path):
    written = path.read_text() if path.exists() else None
    assert written == generate.made()[path], f"run `{generate.COMMAND}` and commit what changes"


def test_nothing_is_packed_whose_source_is_gone():
    assert not generate.superfluous(), f"run `{generate.COMMAND}`"


def test_every_value_is_used_by_a_template():
    templates = "".join(path.read_text() for path in (CHART / "templates").iterdir())
    for value in generate.values(VALUES_TEXT):
        assert re.search(rf"\.{value.path[-1]}\b", templates), value.path


def test_a_value_without_a_description_is_refused():
    with pytest.raises(ValueError, match=r"values.yaml:4: a\.c has no"):
        list(generate.values("a:\n  # -- Described.\n  b: 1\n  c: 2\n"))


def test_a_comment_describes_only_the_value_beneath_it():
    text = "# A title.\n\n# -- First\n# and more.\n# @schema {minimum: 1}\na: 1\n# -- Second.\nb: {c: d}\n"
    first, second = generate.values(text)
    assert (first.path, first.default, first.description) == (("a",), 1, "First and more.")
    assert first.schema == {"type": "integer", "minimum": 1}
    assert (second.path, second.default, second.description) == (("b",), {"c": "d"}, "Second.")


# --------------------------------------------------------------------------------------------------- the values' schema


def mistakes(values):
    return [error.message for error in jsonschema.Draft7Validator(SCHEMA).iter_errors(values)]


def test_the_schema_is_one_that_every_helm_3_reads_and_its_defaults_pass():
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == "http://json-schema.org/draft-07/schema#"
    assert mistakes(VALUES) == []


@pytest.mark.parametrize("case", CASES)
def test_the_values_of_each_case_pass(case):
    # Helm takes away what is null before it checks.
    given = {name: value for name, value in values_of(case).items() if value is not None}
    assert mistakes(VALUES | given) == []


@pytest.mark.parametrize(
    "values",
    [
        {"replicas": 2},
        {"autoscaling": {"enabled": True}},
        {"persistence": {"enable": False}},
        {"serviceMonitor": {"enabled": "yes"}},
        {"image": {"digest": "sha256:short"}},
        {"image": {"tag": 1.2}},
        {"config": {"poll_intervall": "20s"}},
        {"config": {"watches": [{"access_log": {"group": "g"}}]}},
        {"config": {"poll_interval": 20}},
        {"config": {"traces": {"protocol": "http/json"}}},
        {"ruleFiles": {"exporter.yaml": "rules: []"}},
        {"ruleFiles": {"../rules.yaml": "rules: []"}},
        {"prometheusRule": {"runbookUrlTemplate": "https://wiki.example.com/"}},
    ],
    ids=json.dumps,
)
def test_a_mistake_is_found_before_anything_is_installed(values):
    assert mistakes(values)


def test_whatever_the_configuration_can_say_the_values_can_say():
    of_config = config_schema()
    assert SCHEMA["$defs"]["Config"]["properties"] == of_config["properties"]
    for path in (ROOT / "config").glob("*.yaml"):
        if path.name != "rules.yaml":
            assert mistakes({"config": yaml.safe_load(path.read_text())}) == []


# --------------------------------------------------------------------------------------- what is rendered, and installed


@pytest.mark.parametrize("case", [case for case in CASES if "config" in values_of(case)])
def test_the_exporter_reads_the_configuration_that_is_mounted_as_it_was_meant(case, tmp_path):
    files = golden(case)["ConfigMap"]["data"]
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    config = load_config(str(tmp_path / "exporter.yaml"), environ=ENVIRON)
    own = values_of(case)
    meant = own["config"]
    if own.get("ruleFiles"):
        meant["rules"] = list(dict.fromkeys([*meant.get("rules", []), *sorted(own["ruleFiles"])]))
    assert config == load_config(str(tmp_path / "exporter.yaml"), text=yaml.safe_dump(meant), environ=ENVIRON)
    rules = shipped_rules()
    for path in config.rules:
        rules = load_rules(Path(path).read_text(), source=path, extends=rules)


@pytest.mark.parametrize("case", CASES)
def test_every_argument_is_one_that_run_knows(case):
    command, *arguments = container_of(case)["args"]
    known = {name for option in main.commands[command].params for name in option.opts}
    extra = values_of(case).get("extraArgs", [])
    assert {argument.partition("=")[0] for argument in arguments if argument not in extra} <= known
    assert container_of(case)["args"].count(f"--config.file={config_mount(case)}/exporter.yaml") == 1


def config_mount(case):
    mounts = {mount["name"]: mount["mountPath"] for mount in container_of(case)["volumeMounts"]}
    return mounts["config"]


@pytest.mark.parametrize("case", CASES)
def test_service_probes_and_monitors_find_the_port_that_is_listened_on(case):
    container = container_of(case)
    port = container["ports"][0]["containerPort"]
    assert container["ports"] == [{"name": "metrics", "containerPort": port, "protocol": "TCP"}]
    assert f"--web.listen-address=:{port}" in container["args"]
    assert golden(case)["Service"]["spec"]["ports"][0] | {"name": "metrics"} == {
        "name": "metrics",
        "port": port,  # a headless Service cannot translate
        "targetPort": "metrics",
        "protocol": "TCP",
    }
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        handler = container.get(probe, {}).get("httpGet") or container.get(probe, {}).get("tcpSocket")
        assert handler is None or handler["port"] == "metrics"
    if policy := golden(case).get("NetworkPolicy"):
        assert policy["spec"]["ingress"][0]["ports"] == [{"port": port, "protocol": "TCP"}]


def test_pages_that_are_asked_for_exist():
    nothing = lambda *_: []  # noqa: E731
    app = build_app(
        product=None,
        own=None,
        alive=nothing,
        not_ready=nothing,
        watches=nothing,
        config=nothing,
        reload=None,
        version="1",
    )
    served = {route.path for route in app.routes}
    asked = {container_of("minimal")[probe]["httpGet"]["path"] for probe in ("startupProbe", "readinessProbe")}
    asked.add(golden("eks")["ServiceMonitor"]["spec"]["endpoints"][0]["path"])
    assert asked <= served


def test_the_defaults_are_those_of_the_program_and_of_its_image():
    image = (ROOT / "Dockerfile").read_text()
    config = load_config(None, text="watches: [{name: a, access_log: {group: g}}]", environ=ENVIRON)
    assert VALUES["service"]["port"] == config.web.listen_address.port
    assert f"EXPOSE {VALUES['service']['port']}\n" in image
    security = VALUES["podSecurityContext"]
    assert f"USER {security['runAsUser']}:{security['runAsGroup']}\n" in image
    assert security["fsGroup"] == security["runAsGroup"]
    state = str(Path(config.state.path).parent)
    assert state in [mount["mountPath"] for mount in container_of("minimal")["volumeMounts"]]
    assert f"VOLUME {state}\n" in image


@pytest.mark.parametrize("case", CASES)
def test_a_stop_has_the_time_it_needs(case):
    web_s = 6
    assert pod_of(case)["spec"]["terminationGracePeriodSeconds"] >= STOP_GRACE_SECONDS + web_s


@pytest.mark.parametrize("case", CASES)
def test_the_pod_is_locked_down(case):
    pod, container = pod_of(case)["spec"], container_of(case)
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False
    assert "/tmp" in [mount["mountPath"] for mount in container["volumeMounts"]]


@pytest.mark.parametrize("case", CASES)
def test_every_mount_has_its_volume(case):
    spec = golden(case)["StatefulSet"]["spec"]
    volumes = [volume["name"] for volume in spec["template"]["spec"]["volumes"]]
    volumes += [claim["metadata"]["name"] for claim in spec.get("volumeClaimTemplates", [])]
    assert sorted(volumes) == sorted(mount["name"] for mount in container_of(case)["volumeMounts"])


@pytest.mark.parametrize("case", CASES)
def test_everything_selects_the_pod_by_what_never_changes(case):
    objects = golden(case)
    labels = pod_of(case)["metadata"]["labels"]
    selectors = [
        objects["StatefulSet"]["spec"]["selector"]["matchLabels"],
        objects["Service"]["spec"]["selector"],
        *(objects[kind]["spec"]["selector"]["matchLabels"] for kind in ("PodMonitor", "ServiceMonitor", "PodDisruptionBudget") if kind in objects),
        *(objects[kind]["spec"]["podSelector"]["matchLabels"] for kind in ("NetworkPolicy",) if kind in objects),
        *(claim["metadata"]["labels"] for claim in objects["StatefulSet"]["spec"].get("volumeClaimTemplates", [])),
    ]  # fmt: skip
    for selector in selectors:
        assert selector == {"app.kubernetes.io/name": "apigateway-exporter", "app.kubernetes.io/instance": "test"}
        assert selector.items() <= labels.items()
    assert selectors[0].items() <= objects["Service"]["metadata"]["labels"].items()


@pytest.mark.parametrize("case", CASES)
def test_it_is_scraped_even_when_it_is_not_ready(case):
    service = golden(case)["Service"]["spec"]
    assert (service["clusterIP"], service["publishNotReadyAddresses"]) == ("None", True)
    assert golden(case)["StatefulSet"]["spec"]["serviceName"] == golden(case)["Service"]["metadata"]["name"]


@pytest.mark.parametrize("case", CASES)
def test_a_pod_that_cannot_become_ready_can_be_mended(case):
    # With OrderedReady a StatefulSet would wait for it for ever.
    assert golden(case)["StatefulSet"]["spec"]["podManagementPolicy"] == "Parallel"


def test_the_kubelet_only_connects_where_it_cannot_log_in():
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container_of("secured")[probe]["tcpSocket"] == {"port": "metrics"}
        assert container_of("minimal")[probe]["httpGet"]["scheme"] == "HTTP"
    assert golden("secured")["PodMonitor"]["spec"]["podMetricsEndpoints"][0]["scheme"] == "https"


def test_no_secret_of_the_web_configuration_is_in_a_config_map():
    web = values_of("secured")["webConfig"]["content"]
    assert yaml.safe_load(golden("secured")["Secret"]["stringData"]["web.yml"]) == web
    assert "$2y$" not in json.dumps(golden("secured")["ConfigMap"])


def test_the_role_of_irsa_is_templated():
    annotations = golden("eks")["ServiceAccount"]["metadata"]["annotations"]
    assert annotations["eks.amazonaws.com/role-arn"] == "arn:aws:iam::123456789012:role/test-exporter"
    environment = {entry["name"]: entry.get("value") for entry in container_of("eks")["env"]}
    assert environment["AWS_STS_REGIONAL_ENDPOINTS"] == "regional"


@pytest.mark.parametrize("case", CASES)
def test_objects_of_the_operator_fit_its_schema(case):
    for kind in ("ServiceMonitor", "PodMonitor"):
        if kind in golden(case):
            jsonschema.validate(golden(case)[kind], operator_schema(kind))


def operator_schema(kind):
    return json.loads((CHART / "tests" / "schemas" / f"{kind.lower()}-monitoring-v1.json").read_text())


# ------------------------------------------------------------------------------------------------------- with Helm itself

HELM = "helm.sh/helm/v3/cmd/helm@v3.21.4"


@pytest.fixture(scope="session")
def helm():
    """Runs Helm; $HELM names another than the one in the path."""
    command = shutil.which(os.environ.get("HELM", "helm"))
    if command is None:
        pytest.fail(f"these tests need Helm: `go install {HELM}`, then put it into PATH or name it in $HELM")

    def run(*arguments, values=None, expect=0):
        given = () if values is None else ("--values", "-")
        done = subprocess.run(
            [command, *arguments, *given],
            input=json.dumps(values or {}),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == expect, done.stderr
        return done.stdout if expect == 0 else done.stderr

    return run


@pytest.fixture
def render(helm):
    def render(values, *, chart=CHART, only=None, expect=0):
        shown = () if only is None else ("--show-only", f"templates/{only}")
        return helm("template", "test", str(chart), "--namespace", "monitoring", *shown, values=values, expect=expect)

    return render


MINIMAL = values_of("minimal")


def in_golden(rendered):
    """Without the objects that only repeat packed files. A document's first line names its template."""
    documents = re.split(r"^---\n", rendered, flags=re.MULTILINE)[1:]
    return "".join(f"---\n{text}" for text in documents if not text.partition("\n")[0].endswith(PACKED))


@pytest.mark.helm
@pytest.mark.parametrize("case", CASES)
def test_the_golden_files_are_what_helm_renders(case, render):
    rendered = in_golden(render(values_of(case)))
    path = CHART / "tests" / "golden" / f"{case}.yaml"
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(rendered)
    assert path.read_text() == rendered


@pytest.mark.helm
@pytest.mark.parametrize("case", CASES)
def test_helm_lints_it(case, helm):
    helm("lint", "--strict", str(CHART))
    helm("lint", "--strict", str(CHART), values=values_of(case))


def changed(**values):
    return MINIMAL | values


@pytest.mark.helm
@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, ["there is nothing to watch"]),
        (changed(replicaCount=2), ["replicaCount is 2", "count every failure again"]),
        (changed(serviceMonitor={"enabled": True}, podMonitor={"enabled": True}), ["scrape the exporter twice"]),
        (changed(existingSecret="own"), ["config would have no effect"]),
        ({"existingSecret": "own", "existingConfigMap": "own"}, ["Set one of them"]),
        ({"existingSecret": "own", "ruleFiles": {"a.yaml": "rules: []"}}, ["ruleFiles would have no effect"]),
        (changed(config=MINIMAL["config"] | {"web": {"listen_address": ":1"}}), ["Set service.port"]),
        (changed(config=MINIMAL["config"] | {"web": {"config_file": "web.yml"}}), ["webConfig.content"]),
        (changed(config=MINIMAL["config"] | {"state": {"path": "/data/state.db"}}), ["/data/state.db", "volume"]),
        (changed(webConfig={"existingSecret": "own", "content": {"a": 1}}), ["Move it into that Secret"]),
        (changed(webConfig={"tlsSecret": "own"}), ["without a web configuration"]),
        (changed(persistence={"accessModes": ["ReadWriteMany"]}), ["network file systems"]),
        (changed(extraArgs=["--web.listen-address=:1"]), ["--web.listen-address itself"]),
        (changed(prometheusRule={"enabled": True, "disabledAlerts": {"Nope": True}}), ["there is no alert Nope"]),
        # All at once.
        (
            {"replicaCount": 3, "webConfig": {"tlsSecret": "own"}},
            ["nothing to watch", "replicaCount is 3", "tlsSecret"],
        ),
        # By the schema.
        (changed(autoscaling={}), ["autoscaling"]),
        (changed(config={"watches": [{"name": "a", "acces_log": {"group": "g"}}]}), ["acces_log"]),
        (changed(persistence={"enabled": "false"}), ["/persistence/enabled"]),
    ],
)
def test_it_says_what_it_refuses_and_why(values, said, render):
    message = render(values, expect=1)
    for words in said:
        assert words in message


@pytest.mark.helm
def test_no_text_changes_its_meaning_on_the_way_through_helm(render):
    texts = [
        "on",
        "NO",
        "null",
        "~",
        "012",
        "0x1F",
        "1_000",
        "12:30:00",
        "1e3",
        "12e4567890",
        "1.10",
        ".5",
        "=",
        "${UNSET:-x}",
    ]
    texts += ["2026-01-01", "a: b", " # no comment", "{{ .Values }}", "- x", "'", '"', "\\", "%", "@", "ä€", "&a", "*a"]
    watches = [
        {"name": text, "region": "eu-west-1", "access_log": {"group": "g", "format": f"$context.status {text}\n}}\t"}}
        for text in texts
    ]
    rendered = yaml.safe_load(render({"config": {"watches": watches}}, only="configmap.yaml"))
    config = load_config("exporter.yaml", text=rendered["data"]["exporter.yaml"], environ=ENVIRON)
    assert config == load_config("exporter.yaml", text=yaml.safe_dump({"watches": watches}), environ=ENVIRON)
    assert [watch.name for watch in config.watches] == [text.replace("${UNSET:-x}", "x") for text in texts]


@pytest.mark.helm
def test_a_changed_configuration_replaces_the_pod_and_a_new_chart_version_alone_does_not(render, tmp_path):
    def template(values, chart=CHART):
        return yaml.safe_load(render(values, chart=chart, only="statefulset.yaml"))["spec"]["template"]

    faster = changed(config=MINIMAL["config"] | {"poll_interval": "10s"})
    assert template(faster) != template(MINIMAL)
    chart = shutil.copytree(CHART, tmp_path / "chart")
    text = (chart / "Chart.yaml").read_text()
    (chart / "Chart.yaml").write_text(re.sub(r"(?m)^version: .*", "version: 99.0.0", text))
    assert template(MINIMAL, chart) == template(MINIMAL)


@pytest.mark.helm
def test_the_rule_object_holds_the_shipped_rules(render):
    wanted = {"enabled": True, "labels": {"release": "prometheus"}}
    rule = yaml.safe_load(render(changed(prometheusRule=wanted), only="prometheusrule.yaml"))
    jsonschema.validate(rule, operator_schema("PrometheusRule"))
    files = sorted((CHART / "files" / "prometheus").iterdir())
    assert rule["spec"]["groups"] == [group for path in files for group in yaml.safe_load(path.read_text())["groups"]]
    assert rule["metadata"]["labels"]["release"] == "prometheus"


@pytest.mark.helm
def test_alerts_point_to_the_users_own_places(render):
    values = values_of("eks")
    rule = yaml.safe_load(render(values, only="prometheusrule.yaml"))
    jsonschema.validate(rule, operator_schema("PrometheusRule"))
    alerts = {entry["alert"]: entry for group in rule["spec"]["groups"] for entry in group["rules"] if "alert" in entry}
    assert "ApiGatewayThrottling" not in alerts
    assert "ApiGatewayQuotaExceeded" in alerts
    for name, alert in alerts.items():
        assert alert["annotations"]["runbook_url"] == f"https://wiki.example.com/runbooks/{name}"
        assert alert["labels"]["team"] == "payments"
        assert alert["labels"]["severity"]
    assert "grafana.example.com" not in json.dumps(rule)
    assert "https://grafana.internal`" in json.dumps(rule)
    assert rule["metadata"]["namespace"] == "rules"


@pytest.mark.helm
def test_each_dashboard_becomes_a_config_map_of_the_sidecar(render, tmp_path):
    chart = shutil.copytree(CHART, tmp_path / "chart")
    text = json.dumps({"title": "A", "legend": "{{stage}} $__rate_interval", "uid": "a"}, indent=2)
    (chart / "files" / "dashboards").mkdir(exist_ok=True)
    (chart / "files" / "dashboards" / "Own_Dashboard.json").write_text(text + "\n")
    shown = render(values_of("eks"), chart=chart, only="dashboards.yaml")
    boards = {thing["metadata"]["name"]: thing for thing in yaml.safe_load_all(shown)}
    board = boards["test-apigateway-exporter-own-dashboard"]
    assert board["data"] == {"Own_Dashboard.json": text}
    assert board["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert board["metadata"]["namespace"] == "grafana"
    assert board["metadata"]["annotations"] == {"grafana_folder": "API Gateway"}


@pytest.mark.helm
def test_without_the_operator_its_objects_are_left_out_only_where_that_is_asked_for(helm):
    def kinds(*arguments, **operator):
        values = changed(serviceMonitor={"enabled": True}, prometheusOperator=operator)
        rendered = helm("template", "test", str(CHART), *arguments, values=values)
        return {thing["kind"] for thing in yaml.safe_load_all(rendered) if thing}

    assert "ServiceMonitor" in kinds()
    assert "ServiceMonitor" not in kinds(skipIfMissing=True)
    assert "ServiceMonitor" in kinds("--api-versions", "monitoring.coreos.com/v1", skipIfMissing=True)


@pytest.fixture
def notes(helm, tmp_path):
    """Renders NOTES.txt, which Helm itself shows only where there is a cluster."""
    chart = shutil.copytree(CHART, tmp_path / "chart")
    text = (chart / "templates" / "NOTES.txt").read_text()
    shown = '{{- define "notes" -}}' + text + '{{- end -}}\nnotes: {{ include "notes" . | toJson }}\n'
    (chart / "templates" / "NOTES.txt").unlink()
    (chart / "templates" / "notes.yaml").write_text(shown)

    def notes(values):
        return yaml.safe_load(
            helm("template", "test", str(chart), "--show-only", "templates/notes.yaml", values=values)
        )["notes"]

    return notes


@pytest.mark.helm
def test_the_notes_warn_of_what_loses_data(notes):
    quiet = notes(changed(serviceMonitor={"enabled": True}))
    assert "WARNING" not in quiet
    assert "port-forward service/test-apigateway-exporter 10610" in quiet
    assert "persistence.enabled is false" in notes(changed(persistence={"enabled": False}))
    assert "replicaCount is 0" in notes(changed(replicaCount=0))
    assert "No monitor is enabled" in notes(MINIMAL)
    assert "nobody scrapes" in notes(values_of("ephemeral"))
    assert "role/test-exporter" in notes(values_of("eks"))


@pytest.mark.helm
def test_the_package_holds_what_the_chart_needs_and_no_more(helm, tmp_path):
    helm("package", str(CHART), "--destination", str(tmp_path))
    (package,) = tmp_path.iterdir()
    shutil.unpack_archive(package, tmp_path / "unpacked", filter="data")
    top = {path.name for path in (tmp_path / "unpacked" / "apigateway-exporter").iterdir()}
    assert top == {"Chart.yaml", "README.md", ".helmignore", "files", "templates", "values.schema.json", "values.yaml"}


@pytest.mark.helm
def test_a_long_release_name_leaves_room_for_what_kubernetes_adds(helm):
    rendered = helm("template", "r" * 53, str(CHART), "--show-only", "templates/statefulset.yaml", values=MINIMAL)
    assert len(yaml.safe_load(rendered)["metadata"]["name"]) <= 52
