"""The command line as people meet it: what it prints, what it refuses, and with which exit code."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from exporter.cli import main

LAMBDA_ID = "0c7b5b0c-1f6a-4c80-8d1a-111111111111"
ARTICLE = {
    "access": '{"requestId": "17cb49b2-1061-45dc-8c6b-2e2e2e2e2e2e","status": "403",'
    '"message": "Missing Authentication\\n Token"}',
    "permission": "(2b8f2d2e-3f1d-4e0b-9b8a-111111111111) Execution failed due to configuration error: Invalid "
    "permissions on Lambda function\n(2b8f2d2e-3f1d-4e0b-9b8a-111111111111) Method completed with status: 500",
    "timeout": "(2b8f2d2e-3f1d-4e0b-9b8a-222222222222) Execution failed due to a timeout error\n"
    "(2b8f2d2e-3f1d-4e0b-9b8a-222222222222) Method completed with status: 504",
    "function": "(2b8f2d2e-3f1d-4e0b-9b8a-333333333333) Lambda execution failed with status 200 due to customer "
    f"function error: division by zero. Lambda request id: {LAMBDA_ID}\n"
    "(2b8f2d2e-3f1d-4e0b-9b8a-333333333333) Method completed with status: 502",
}
VERDICTS = {
    "access": (403, "missing_authentication_token", "client"),
    "permission": (500, "lambda_permission", "configuration"),
    "timeout": (504, "integration_timeout", "integration"),
    "function": (502, "lambda_error", "integration"),
}
GOOD = "accounts: [{name: prod, regions: [eu-west-1]}]\nwatches: [{name: orders, access_log: {group: access/orders}}]\n"


def invoke(*arguments: str, text: str | None = None):
    return CliRunner().invoke(main, arguments, input=text)


def verdicts(text: str, *arguments: str) -> list[dict]:
    result = invoke("classify", "--format", "json", *arguments, text=text)
    assert result.exit_code == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.mark.parametrize("name", ARTICLE)
def test_classify_explains_the_examples_of_the_support_article(name):
    (verdict,) = verdicts(ARTICLE[name])
    assert (verdict["status"], verdict["cause"], verdict["category"]) == VERDICTS[name]
    assert verdict["failure"] is True
    assert verdict["evidence"]
    assert verdict["rule"]


def test_classify_reads_many_requests_and_tells_each_once():
    found = {verdict["request_id"]: verdict["cause"] for verdict in verdicts("\n".join(ARTICLE.values()))}
    assert len(found) == 4
    assert set(found.values()) == {cause for _, cause, _ in VERDICTS.values()}


def test_classify_prints_successes_as_no_failure_and_exits_with_0():
    (verdict,) = verdicts('{"requestId":"17cb49b2-1061-45dc-8c6b-2e2e2e2e2e2e","status":"200","httpMethod":"GET"}')
    assert verdict["failure"] is False
    assert verdict["cause"] is None
    assert verdict["fields"] == {
        "requestId": "17cb49b2-1061-45dc-8c6b-2e2e2e2e2e2e",
        "status": "200",
        "httpMethod": "GET",
    }


def test_classify_reads_events_as_json_lines_and_the_answer_of_the_aws_command(tmp_path):
    events = [
        {"timestamp": 1_760_000_000_000 + index, "message": line, "eventId": str(index)}
        for index, line in enumerate(ARTICLE["timeout"].splitlines())
    ]
    lines = tmp_path / "events.jsonl"
    lines.write_text("\n".join(json.dumps(event) for event in events))
    answer = tmp_path / "answer.json"
    answer.write_text(json.dumps({"events": events, "searchedLogStreams": []}, indent=2))
    for path in (lines, answer):
        (verdict,) = verdicts("", str(path))
        assert verdict["cause"] == "integration_timeout"
        assert verdict["timeline"][0] == "Execution failed due to a timeout error"


def test_classify_takes_a_stages_own_format():
    own = "$context.status|$context.requestId|$context.error.responseType"
    (verdict,) = verdicts("504|17cb49b2-1061-45dc-8c6b-2e2e2e2e2e2e|INTEGRATION_TIMEOUT", "--access-format", own)
    assert verdict["cause"] == "integration_timeout"


def test_classify_refuses_a_format_it_cannot_read():
    result = invoke("classify", "--access-format", "$context.status $context.path$context.identity.userAgent", text="x")
    assert result.exit_code == 2
    assert "path" in result.stderr
    assert "identity.userAgent" in result.stderr


def test_classify_shows_no_secret():
    line = "(2b8f2d2e-3f1d-4e0b-9b8a-333333333333) Lambda execution failed with status 200 due to customer function "
    line += "error: login of jane.doe@example.com with AKIAIOSFODNN7EXAMPLE failed. Lambda request id: " + LAMBDA_ID
    for output in ("json", "text"):
        printed = invoke("classify", "--format", output, text=line).output
        assert "jane.doe" not in printed
        assert "AKIAIOSFODNN7EXAMPLE" not in printed


def test_check_config_says_how_many_watches_it_found(tmp_path):
    path = tmp_path / "good.yaml"
    path.write_text(GOOD)
    result = invoke("check-config", "--config.file", str(path))
    assert (result.exit_code, result.output.strip()) == (0, f"{path}: ok; 1 watches: orders")


@pytest.mark.parametrize(
    ("access_log", "told"),
    [
        ("{group: a, format: '$context.status$context.path$context.stage'}", "access_log.format: "),
        ("{group: a, format: '$context.requestId $context.path'}, fetch: failures", "add $context.status to it"),
    ],
)
def test_check_config_tells_of_a_format_that_does_not_serve(tmp_path, access_log, told):
    path = tmp_path / "bad.yaml"
    path.write_text(f"watches:\n  - {{name: orders, region: eu-west-1, access_log: {access_log}}}\n")
    result = invoke("check-config", "--config.file", str(path))
    assert result.exit_code == 2
    assert f"{path}: watch `orders`: " in result.stderr
    assert told in result.stderr


def test_check_config_names_every_mistake_with_line_and_hint(tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text("poll_intervall: 20s\n" + GOOD.replace("group:", "grup:"))
    result = invoke("check-config", "--config.file", str(path))
    assert result.exit_code == 2
    assert f"{path}:1" in result.stderr
    assert "poll_interval" in result.stderr
    assert f"{path}:3" in result.stderr


def test_a_missing_configuration_is_told_with_what_to_do():
    result = invoke("run", "--config.file", "/nowhere/exporter.yaml")
    assert result.exit_code == 2
    assert "/nowhere/exporter.yaml" in result.stderr


def test_test_rules_passes_the_shipped_rules_and_fails_a_test_that_does_not_hold(tmp_path):
    good = invoke("test-rules")
    assert good.exit_code == 0
    assert ", 0 failed" in good.output
    own = tmp_path / "own.yaml"
    own.write_text(
        "rules:\n"
        "  - name: teapot\n"
        "    cause: bad_request\n"
        "    when: {status: 418}\n"
        "    tests:\n"
        "      - name: a teapot\n"
        "        lines: |\n"
        '          {"requestId":"17cb49b2-1061-45dc-8c6b-2e2e2e2e2e2e","status":"417","protocol":"HTTP/1.1"}\n'
        "        expect: none\n"
    )
    bad = invoke("test-rules", str(own))
    assert bad.exit_code == 1
    assert "teapot" in bad.output


def test_every_option_of_run_has_an_environment_twin(tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text("nonsense: 1\n")
    result = CliRunner(env={"APIGATEWAY_EXPORTER_CONFIG_FILE": str(path)}).invoke(main, ["check-config"])
    assert result.exit_code == 2
    assert "nonsense" in result.stderr


def test_the_module_is_the_command():
    result = subprocess.run(
        [sys.executable, "-m", "exporter", "--version"], capture_output=True, text=True, check=True, timeout=60
    )
    assert result.stdout.startswith("apigateway-exporter, version ")


def test_every_command_is_documented():
    documents = "".join(path.read_text() for path in Path("docs").rglob("*.md")) + Path("README.md").read_text()
    for command in main.commands:
        assert f"apigateway-exporter {command}" in documents, f"no document shows `apigateway-exporter {command}`"
