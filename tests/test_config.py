"""The configuration: what is accepted, what is refused and in which words, and that its documents tell the truth."""

import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from exporter.config import (
    ConfigError,
    Discover,
    ListenAddress,
    config_schema,
    format_duration,
    load_config,
    masked_yaml,
    parse_duration,
    parse_listen_address,
)
from exporter.config.document import read_document
from exporter.config.scalars import format_size, parse_size, parse_statuses
from exporter.config.wording import all_keys, followed
from exporter.model import UNKNOWN, LogGroup
from tests.configuration_reference import PAGE, page_with, reference

ROOT = Path(__file__).parent.parent
BAD = Path(__file__).parent / "bad_config"
SHIPPED = ROOT / "config" / "exporter.yaml"
MINIMAL = ROOT / "config" / "minimal.yaml"
WATCH = "watches: [{name: a, region: eu-west-1, access_log: {group: a}}]\n"
SECRET = "hemlig"

# One file a mistake: `line: path: what is wrong; how to mend it`.
MISTAKES = {
    "access_format_unknown": "2: watches[0].access_log.format: `combined` is not a format; write one of `auto`, `clf`, `json`, `csv`, `xml`, or the stage's own `$context…` string",
    "account_name_twice": "3: accounts[1].name: `accounts[0]` has the same name; give each its own",
    "account_not_said": "5: watches[0]: it does not say which account it is in; add `account:` with one of `x`, `y`",
    "account_unknown": "5: watches[0].account: there is no account of this name; write one of `prod`, or add it under `accounts`",
    "alias_of_itself": "1: watches[0]: the alias contains itself; write the value out",
    "api_type_unknown": "2: watches[0].api.type: `rest` is not known here; did you mean `REST`?",
    "bare_number": "3: poll_interval: `30` has no unit; write `30s` if seconds are meant",
    "budget_negative": "3: traces.budget.causes.throttled: must be at least 0",
    "budget_of_no_status": "4: traces.budget.statuses.6xx: this is not a status; write `4xx`, `5xx`, `404` or a range like `500-504`",
    "cause_malformed": "3: failures.ignore_causes[0]: `Timed Out` is not the name of a cause; write one like `invalid_api_key`",
    "discover_nowhere": "1: discover: it does not say where to look; give the account `regions: [eu-west-1]`, or set AWS_REGION",
    "discover_too_rarely": "2: discover.refresh: a new stage's first failures could be missed; write at most `initial_lookback`, `15m`",
    "duplicate_key": "5: poll_interval: the key is given twice, first on line 3; keep one of the two",
    "duration_base_60": '3: initial_lookback: YAML reads `12:30:00` as a number to base 60; write `"12:30:00"` if text is meant; as a duration write `12h30m`',
    "duration_too_short": "3: poll_interval: `500ms` is too short; write at least `1s`",
    "duration_with_fraction": "3: initial_lookback: `1.5h` is not a duration; write whole numbers with units, largest first: `500ms`, `5m30s`",
    "duration_without_meaning": "3: initial_lookback: `5 minutes` is not a duration; write whole numbers with units, largest first: `500ms`, `5m30s`",
    "empty": "1: watches: there is nothing to watch; list at least one stage with its log groups under `watches`",
    "endpoint_not_http": "3: traces.endpoint: this is not the address of a collector; write one like `http://otel-collector:4318`",
    "endpoint_user_and_header": "3: traces.endpoint: it has a user and `traces.headers` has `authorization`; keep one of the two",
    "endpoint_with_query": "3: traces.endpoint: an endpoint has no `?…` and no `#…`; put keys into `traces.headers`",
    "external_id_no_text": "2: accounts[0].external_id: must be text",
    "external_id_without_role": "2: accounts[0].external_id: an external id is for assuming a role; add `role_arn` or remove it",
    "field_malformed": "3: traces.fields[0]: `$context.identity.sourceIp` is not an access variable; write it without `$context.`: `identity.sourceIp`",
    "flag_by_word": '3: labels.resource: YAML reads `off` as false; write `false`, or `"off"` if text is meant',
    "flag_instead_of_text": '3: watches[0].region: YAML reads `no` as false; write `false`, or `"no"` if text is meant',
    "float_instead_of_text": '5: watches[0].api.stage: must be text; put it in quotes: "…"',
    "group_arn_malformed": "2: watches[0].access_log.group: `arn:aws:logs:eu-west-1:12345:log-group:a:*` is not the ARN of a log group; write `arn:aws:logs:<region>:<12 digits>:log-group:<name>`",
    "group_malformed": "2: watches[0].access_log.group: `my group` is not the name of a log group; letters, digits and `_ - / . #` are allowed",
    "header_name": "3: traces.headers.x y: this is not the name of a header",
    "header_value": "5: traces.headers.x-key: a header's value must be one line of printable characters",
    "key_is_a_list": "3: a key must be text, not a list or a mapping",
    "lateness_too_short": "1: allowed_lateness: `watches[0]` needs its `max_request` and a minute; write at least `1m30s`, or leave it out",
    "link_without_scheme": "3: traces.link_template: write an address that begins with `http://` or `https://`",
    "link_without_trace_id": "3: traces.link_template: write the address of a trace with `{trace_id}` (and, if needed, `{span_id}`) in its place",
    "listen_address_bare_ipv6": "3: web.listen_address: put the IPv6 address in brackets: `[::]:10610`",
    "listen_address_without_port": "3: web.listen_address: `localhost` is not an address; write `host:port`, `:port` or `[::]:port`",
    "merge_key": "4: web: merge keys (`<<`) are not read; write the keys out",
    "no_value": "3: poll_interval: has no value; write one, or leave the key out",
    "no_watches": "1: watches: there is nothing to watch; list at least one stage with its log groups under `watches`",
    "not_a_mapping": "1: the file must be made of `key: value` lines",
    "number_too_small": "3: labels.max_series: must be at least 1",
    "octal": '5: watches[0].api.id: YAML reads `0123456701` as an octal number; write `"0123456701"` if text is meant',
    "protocol_unknown": "3: traces.protocol: `gprc` is not known here; did you mean `grpc`?",
    "region_malformed": "2: watches[0].region: `ireland` is not the name of a region; write one like `eu-west-1`",
    "region_not_of_account": "4: watches[0].region: account `x` does not read this region; write one of `eu-west-1`, `eu-north-1`, or add it to its `regions`",
    "region_not_said": "2: watches[0]: it does not say which region it is in; add `region: eu-west-1` or the like, or set AWS_REGION",
    "region_not_said_of_several": "4: watches[0]: it does not say which region it is in; add `region:` with one of `eu-west-1`, `eu-north-1`",
    "region_twice": "5: accounts[0].regions[1]: the region is listed twice; keep one of the two",
    "role_malformed": "2: accounts[0].role_arn: `exporter` is not the ARN of a role; write `arn:aws:iam::<12 digits>:role/<name>`",
    "size_without_unit": "3: state.max_outbox: `1000000` is not a size; write a whole number with KiB, MiB, GiB or TiB: `512MiB`",
    "status_malformed": "6: failures.statuses[1]: `5x` is not a status; write `4xx`, `5xx`, `404` or a range like `500-504`",
    "status_range_backwards": "3: failures.statuses[0]: the range `504-500` is empty; write the smaller status first",
    "statuses_empty": "3: failures.statuses: must not be empty; write at least one item or leave the key out",
    "syntax": "3: not valid YAML: found unexpected end of stream; look at the indentation, the colons and the quotes on this line and the one before",
    "tab": "2: not valid YAML: found character '\\t' that cannot start any token; indent with blanks, not with tabs",
    "tag": "3: rules: the tag `!include` is not read; remove it",
    "text_instead_of_list": "3: rules: must be a list; write each item on a line of its own after `- `, or all of them as `[a, b]`",
    "text_instead_of_number": "4: labels.max_series: must be a whole number",
    "text_instead_of_section": "3: web: must be a section; write `key: value` lines beneath it",
    "too_many_calls": "2: accounts[0].calls_per_second: must be more than 0 and at most 25: no region allows more FilterLogEvents calls a second",
    "two_documents": "3: not valid YAML: but found another document; keep one document: remove the second `---`",
    "unknown_key": "3: poll_intervall: unknown key; did you mean `poll_interval`?",
    "unknown_key_elsewhere": "3: listen_address: unknown key here; it belongs to `web`",
    "unknown_key_far_off": "4: labels.colour: unknown key; known here are `resource`, `method`, `max_series`, `zero_hold`, `forget_after`",
    "variable_in_braces": "2: not valid YAML: expected ',' or '}', but got '{'; inside `{…}` and `[…]` put `${NAME}` in quotes",
    "variable_is_no_duration": "3: poll_interval: `${HEMLIG}` is not a duration; write whole numbers with units, largest first: `500ms`, `5m30s`",
    "variable_is_no_number": "4: labels.max_series: must be a whole number; look at what the environment variable holds",
    "variable_unfinished": "4: traces.endpoint: `${HEMLIG` is not finished; write `${HEMLIG}` or `${HEMLIG:-default}`",
    "variable_unset": "4: traces.endpoint: the environment variable NOT_SET is not set; set it or write `${NOT_SET:-default}`",
    "watch_name_twice": "3: watches[1].name: `watches[0]` has the same name; give each its own",
    "watch_with_one_group_twice": "5: watches[0].execution_log.group: the access log is in the same group; a log group holds one kind of lines: name the other group",
    "watch_without_group": "2: watches[0]: it has no log group; add `access_log: {group: …}`, `execution_log: {group: …}` or, best, both",
    "watch_without_name": "2: watches[0]: the key `name` is missing; add it",
}


def load(text, environ=None):
    return load_config(None, text, environ or {})


def outcome(text, environ=None):
    try:
        return load(text, environ), None
    except ConfigError as error:
        return None, error


def mistakes(text, environ=None):
    with pytest.raises(ConfigError) as caught:
        load(text, environ)
    return [line.removeprefix("configuration:") for line in str(caught.value).splitlines()]


# ------------------------------------------------------------------------------------------------------- what is wrong


@pytest.mark.parametrize("name", sorted(path.stem for path in BAD.glob("*.yaml")))
def test_each_mistake_is_told_in_its_own_words(name):
    path = str(BAD / f"{name}.yaml")
    with pytest.raises(ConfigError) as caught:
        load_config(path, environ={"HEMLIG": SECRET})
    assert str(caught.value) == f"{path}:{MISTAKES[name]}"
    assert SECRET not in str(caught.value) + repr(caught.value)


def test_every_message_has_its_file():
    assert set(MISTAKES) == {path.stem for path in BAD.glob("*.yaml")}


def test_all_mistakes_are_told_at_once_in_the_order_of_the_file():
    # Those of the YAML, those of single values, and those of what sections mean together.
    assert mistakes(
        """
poll_interval: 30
web: {listen_adress: ":9000"}
web: {}
accounts:
  - {name: prod, regions: [eu-west-1], calls_per_second: 0}
  - {name: test, regions: [eu-west-1], external_id: x}
watches:
  - {name: a, account: test, access_log: {group: a}, region: no}
  - {name: b, account: test, access_log: {group: b}, region: us-east-1}
  - {name: c, account: test}
  - {name: c, account: prod, execution_log: {group: c}, fetch: failures}
traces: {endpoint: $NOT/${NOT}}
discover: {rest: yes}
""".replace("$NOT/${NOT}", '"${NOT}"')
    ) == [
        "2: poll_interval: `30` has no unit; write `30s` if seconds are meant",
        "3: web.listen_adress: unknown key; did you mean `listen_address`?",
        "4: web: the key is given twice, first on line 3; keep one of the two",
        "6: accounts[0].calls_per_second: must be more than 0 and at most 25: no region allows more FilterLogEvents calls a second",
        "7: accounts[1].external_id: an external id is for assuming a role; add `role_arn` or remove it",
        '9: watches[0].region: YAML reads `no` as false; write `false`, or `"no"` if text is meant',
        "10: watches[1].region: account `test` does not read this region; write one of `eu-west-1`, or add it to its `regions`",
        "11: watches[2]: it has no log group; add `access_log: {group: …}`, `execution_log: {group: …}` or, best, both",
        "12: watches[3].name: `watches[2]` has the same name; give each its own",
        "13: traces.endpoint: the environment variable NOT is not set; set it or write `${NOT:-default}`",
        '14: discover.rest: YAML reads `yes` as true; write `true`, or `"yes"` if text is meant',
    ]


def test_an_account_with_a_mistake_is_not_missed_by_its_watches():
    found = mistakes(
        "accounts: [{name: prod, role_arn: x}]\nwatches: [{name: a, account: prod, access_log: {group: a}}]"
    )
    assert [line.split(":")[1] for line in found] == [" accounts[0].role_arn"]


def test_a_watch_with_a_mistake_is_not_told_to_be_missing():
    assert mistakes("watches: [{name: a, acess_log: {group: a}}]") == [
        "1: watches[0].acess_log: unknown key; did you mean `access_log`?"
    ]


@pytest.mark.parametrize(
    "text", ["a: *nothing", "\0", "a: 'b", "{", "- - -\n -", "!!python/object:os.system {}", "%", "[" * 9999]
)
def test_what_is_not_yaml_is_one_mistake_with_a_line(text):
    found = mistakes(text)
    assert re.match(r"\d+: ", found[0])


@settings(deadline=None)
@given(
    st.recursive(
        st.sampled_from(
            ["on", "012", "1:30:00", "${A}", "${", "$$", "~", "5m", "30", "x", "4xx", "!t 1", "-.inf", "1e999"]
        )
        | st.text(max_size=5).map(yaml.safe_dump).map(str.strip),
        lambda inner: (
            st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]")
            | st.dictionaries(
                st.sampled_from([str(path[-1]) for path, _ in all_keys(config_schema())]), inner, max_size=5
            ).map(lambda pairs: "{" + ", ".join(f"{key}: {value}" for key, value in pairs.items()) + "}")
        ),
        max_leaves=25,
    )
)
def test_whatever_stands_in_the_file_loading_ends_in_a_config_or_in_its_mistakes(text):
    config, error = outcome(text)
    assert config is None or config.watches
    assert error is None or all(mistake.text and mistake.line >= 1 for mistake in error.mistakes)


@settings(deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(
            ["watches", "accounts", "traces", "web", "labels", "failures", "poll_interval", "rules", "state"]
        ),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from([str(path[-1]) for path, _ in all_keys(config_schema())]), inner, max_size=4
                )
            ),
            max_leaves=15,
        ),
    )
)
def test_values_of_any_kind_under_any_key_never_break_the_loader(values):
    config, error = outcome(yaml.safe_dump(values))
    assert config is None or config.watches
    assert error is None or error.mistakes


def test_without_a_file_the_message_says_what_to_do():
    with pytest.raises(ConfigError, match=r"no configuration file is named; give one with --config\.file"):
        load_config(None)


def test_a_file_that_cannot_be_read_is_named_with_the_reason(tmp_path):
    for path, reason in ((tmp_path / "none.yaml", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(ConfigError, match=rf"^{re.escape(str(path))}: cannot be read: {reason}"):
            load_config(str(path))


def test_a_file_in_another_encoding_is_refused_and_a_byte_order_mark_is_not(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_bytes(WATCH.replace("name: a", "name: ä").encode("latin-1"))
    with pytest.raises(ConfigError, match="UTF-8"):
        load_config(str(path))
    path.write_text(WATCH, encoding="utf-8-sig")
    assert load_config(str(path), environ={}).watches[0].name == "a"


# ----------------------------------------------------------------------------------------------------------- variables


def test_variables_are_put_into_values_and_nowhere_else():
    config = load(
        """
watches:
  - {name: "${NAME}-${STAGE:-prod}", region: eu-west-1, access_log: {group: "a/${EMPTY:-b}"}}
traces: {headers: {"${NAME}": x}}
""".replace('"${NAME}": x', "x: y"),
        {"NAME": "orders", "EMPTY": ""},
    )
    assert config.watches[0].name == "orders-prod"
    assert config.watches[0].access_log.group == "a/b"
    assert mistakes(WATCH + '"${NAME}": 1\n', {"NAME": "rules"})[0].startswith("2: ${NAME}: unknown key")


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("$context.requestId $context.status", "$context.requestId $context.status"),
        ("$context.a ${stage} $default ${a.B} $NAME", "$context.a ${stage} $default ${a.B} $NAME"),
        ("$$context.a $${NAME} $$$$", "$context.a ${NAME} $$"),
        ("$context.a ${NAME}", "$context.a ${X}"),
    ],
)
def test_only_names_of_capitals_are_variables_and_what_they_hold_is_not_read_again(written, meant):
    watch = f"watches: [{{name: a, region: eu-west-1, access_log: {{group: a, format: '{written}'}}}}]"
    assert load(watch, {"NAME": "${X}"}).watches[0].access_log.format == meant


def test_a_variable_may_hold_a_number_a_flag_or_a_duration():
    text = WATCH + 'labels: {max_series: "${N}", resource: "${F}", zero_hold: "${D}"}\n'
    labels = load(text, {"N": "7", "F": "false", "D": "3m"}).labels
    assert (labels.max_series, labels.resource, labels.zero_hold_ms) == (7, False, 180_000)


def test_quoted_numbers_and_flags_are_text_all_the_same():
    assert mistakes(WATCH + 'labels: {max_series: "7", resource: "true"}\n') == [
        "2: labels.resource: must be `true` or `false`",
        "2: labels.max_series: must be a whole number",
    ]


def test_an_empty_variable_means_not_set():
    assert load(WATCH + 'traces: {endpoint: "${OTLP:-}"}\n').traces.endpoint is None
    assert mistakes(WATCH + 'poll_interval: "${P:-}"\n') == [
        "2: poll_interval: has no value; write one, or leave the key out"
    ]


# -------------------------------------------------------------------------------------------------------------- values


@pytest.mark.parametrize(
    ("text", "length_ms"),
    [
        ("500ms", 500),
        ("20s", 20_000),
        ("5m", 300_000),
        ("5m30s", 330_000),
        ("1h", 3_600_000),
        ("30d", 2_592_000_000),
        ("0s", 0),
        ("90s", 90_000),
        ("1d2h3m4s5ms", 93_784_005),
    ],
)
def test_durations_are_read_by_their_units(text, length_ms):
    assert parse_duration(text) == length_ms


@pytest.mark.parametrize(
    "text", ["", "s", "5", "5 m", "-5m", "1.5h", "30s5m", "5m5m", "5M", "1w", "५m", "5m\n", "1e3s"]
)
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(ValueError):
        parse_duration(text)


@given(st.integers(0, 10**12))
def test_a_duration_reads_as_it_was_written(length_ms):
    assert parse_duration(format_duration(length_ms)) == length_ms


@given(st.integers(0, 10**8).map(lambda count: count * 1024))
def test_a_size_reads_as_it_was_written(size_bytes):
    assert parse_size(format_size(size_bytes)) == size_bytes


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("0.0.0.0:10610", "0.0.0.0", 10610),
        (":9000", "0.0.0.0", 9000),
        ("[::]:9000", "::", 9000),
        ("[fe80::1]:0", "fe80::1", 0),
        ("localhost:65535", "localhost", 65535),
    ],
)
def test_listen_addresses(text, host, port):
    assert parse_listen_address(text) == ListenAddress(host, port)
    assert parse_listen_address(str(ListenAddress(host, port))) == ListenAddress(host, port)


@pytest.mark.parametrize("text", ["", "9000", "localhost", "a:", "a:65536", "::1:9000", "a:-1", "a:http", "a:９"])
def test_what_is_no_listen_address_is_refused(text):
    with pytest.raises(ValueError):
        parse_listen_address(text)


def test_statuses_are_classes_numbers_and_ranges():
    assert parse_statuses("4xx") == set(range(400, 500))
    assert parse_statuses("404") == {404}
    assert parse_statuses("500-504") == {500, 501, 502, 503, 504}


def test_failures_are_wanted_by_status_and_cause_and_the_unknown_excludes_nothing():
    failures = load(WATCH + "failures: {statuses: [5xx, 404, 410-412], ignore_causes: [route_not_found]}").failures
    wanted = [status for status in range(400, 600) if failures.wants(status, None)]
    assert wanted == [404, 410, 411, 412, *range(500, 600)]
    assert failures.wants(None, None)
    assert failures.wants(200, "masked_lambda_error"), "a failure that only the logs show"
    assert failures.wants(404, "bad_request")
    assert not failures.wants(404, "route_not_found")
    assert not failures.wants(None, "route_not_found")


def test_ids_made_of_digits_need_no_quotes():
    config = load("""
accounts: [{name: 123456789012, regions: [eu-west-1]}]
watches: [{name: 7, account: 123456789012, api: {id: 1234567890, stage: 2026-01-01}, access_log: {group: 42}}]
""")
    (watch,) = config.watches
    assert (watch.account, watch.name, watch.access_log.group) == ("123456789012", "7", "42")
    assert (watch.api.id, watch.api.stage) == ("1234567890", "2026-01-01")


def test_sections_and_lists_whose_keys_are_commented_out_are_at_their_defaults():
    empty = "".join(f"{key}:\n" for key in ("accounts", "discover", "failures", "rules", "state", "traces", "web"))
    assert load(WATCH + empty) == load(WATCH)


def test_an_alias_repeats_what_it_names():
    config = load("""
watches:
  - {name: a, region: eu-west-1, access_log: &logs {group: shared}}
  - {name: b, region: eu-west-1, access_log: *logs}
""")
    assert [watch.access_log.group for watch in config.watches] == ["shared", "shared"]


# ------------------------------------------------------------------------------------- accounts, regions, APIs, watches


def test_the_least_configuration_is_complete():
    config = load(WATCH)
    (account,), (watch,) = config.accounts, config.watches
    assert (account.name, account.regions, account.calls_per_second) == ("default", ("eu-west-1",), 2)
    assert watch.groups == (LogGroup("default", "eu-west-1", "a"),)
    assert (watch.max_request_ms, watch.allowed_lateness_ms, watch.fetch) == (30_000, 330_000, "all")
    assert (config.poll_interval_ms, config.initial_lookback_ms, config.allowed_lateness_ms) == (20_000, 900_000, None)
    assert config.state.path == "/var/lib/apigateway-exporter/state.db"
    assert config.state.max_outbox_bytes == 512 * 2**20
    assert config.web.listen_address == ListenAddress("0.0.0.0", 10610)
    assert [status for status in range(400, 700) if config.failures.wants(status)] == list(range(400, 600))
    assert (config.labels.max_series, config.labels.zero_hold_ms) == (20_000, 120_000)
    assert (config.traces.endpoint, config.traces.protocol, config.discover) == (None, None, None)


@pytest.mark.parametrize(
    ("regions", "environ", "region"),
    [
        ("[]", {"AWS_REGION": "eu-west-1", "AWS_DEFAULT_REGION": "us-east-1"}, "eu-west-1"),
        ("[]", {"AWS_REGION": "", "AWS_DEFAULT_REGION": "us-east-1"}, "us-east-1"),
        ("[eu-north-1]", {"AWS_REGION": "eu-west-1"}, "eu-north-1"),
    ],
)
def test_a_watch_without_region_is_in_its_accounts_only_one_else_in_the_environments(regions, environ, region):
    text = f"accounts: [{{name: x, regions: {regions}}}]\nwatches: [{{name: a, access_log: {{group: a}}}}]"
    config = load(text, environ)
    assert config.watches[0].region == region
    assert config.accounts[0].regions == (region,)


@pytest.mark.parametrize("region", ["us-east-1", "us-gov-west-1", "cn-north-1", "ap-southeast-3", "eusc-de-east-1"])
def test_regions_of_every_partition_are_known_by_their_form(region):
    assert load(WATCH.replace("eu-west-1", region)).watches[0].region == region


def test_a_named_account_must_be_default_where_none_is_configured():
    assert load(WATCH.replace("name: a", "name: a, account: default")).watches[0].account == "default"
    assert mistakes(WATCH.replace("name: a", "name: a, account: prod")) == [
        "1: watches[0].account: there is no account of this name; write one of `default`, or add it under `accounts`"
    ]


@pytest.mark.parametrize(
    ("api", "group", "expected"),
    [
        ("", "API-Gateway-Execution-Logs_ab12/prod", ("ab12", "ab12", "prod")),
        ("", "/aws/apigateway/ab12/prod", ("ab12", "ab12", "prod")),
        ("name: orders", "API-Gateway-Execution-Logs_ab12/prod", ("ab12", "orders", "prod")),
        ("stage: v2", "API-Gateway-Execution-Logs_ab12/prod", ("ab12", "ab12", "v2")),
        ("id: zz99", "API-Gateway-Execution-Logs_ab12/prod", ("zz99", "zz99", UNKNOWN)),
        ("", "/aws/apigateway/welcome", (UNKNOWN, UNKNOWN, UNKNOWN)),
        ("", "my/execution/logs", (UNKNOWN, UNKNOWN, UNKNOWN)),
    ],
)
def test_the_api_is_known_from_the_execution_groups_name(api, group, expected):
    text = f"watches: [{{name: a, region: eu-west-1, api: {{{api}}}, execution_log: {{group: {group}}}}}]"
    known = load(text).watches[0].api
    assert (known.id, known.name, known.stage) == expected
    assert (known.region, known.account_id, known.type) == ("eu-west-1", UNKNOWN, "REST")


def test_the_account_id_is_known_from_the_role():
    role = "accounts: [{name: x, regions: [eu-west-1], role_arn: 'arn:aws-cn:iam::123456789012:role/a/b'}]\n"
    assert load(role + WATCH).watches[0].api.account_id == "123456789012"


def test_two_watches_may_share_a_group_and_the_access_group_is_read_first():
    config = load("""
watches:
  - {name: a, region: eu-west-1, execution_log: {group: x}, access_log: {group: shared}}
  - {name: b, region: eu-west-1, execution_log: {group: y}, access_log: {group: shared}}
""")
    assert [[group.name for group in watch.groups] for watch in config.watches] == [["shared", "x"], ["shared", "y"]]


def test_allowed_lateness_follows_the_longest_request_and_is_never_less_than_settling_takes():
    watch = "watches: [{name: a, region: eu-west-1, access_log: {group: a}, max_request: 15m}]\n"
    assert load(watch).watches[0].allowed_lateness_ms == 20 * 60_000
    assert load(watch + "allowed_lateness: 16m").watches[0].allowed_lateness_ms == 16 * 60_000
    assert "write at least `16m`" in mistakes(watch + "allowed_lateness: 15m59s")[0]


def test_relative_paths_start_at_the_files_directory(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(WATCH + "state: {path: s.db}\nweb: {config_file: ../web.yml}\nrules: [r.yaml, /etc/r.yaml]\n")
    config = load_config(str(path), environ={})
    assert config.state.path == str(tmp_path / "s.db")
    assert config.web.config_file == str(tmp_path / ".." / "web.yml")
    assert config.rules == (str(tmp_path / "r.yaml"), "/etc/r.yaml")


def test_nothing_can_be_changed_after_loading():
    config = load(WATCH)
    for part, name in ((config, "rules"), (config.watches[0], "name"), (config.labels, "resource")):
        with pytest.raises((AttributeError, ValidationError)):
            setattr(part, name, "x")


# ------------------------------------------------------------------------------------------------------------- secrets

SECRETS = (
    WATCH
    + """
accounts: [{name: x, regions: [eu-west-1], role_arn: "arn:aws:iam::123456789012:role/x", external_id: hemlig-1}]
traces: {endpoint: "https://me:hemlig-2%21@collector.example:4318/otlp", headers: {x-key: "${KEY}"}}
"""
)


def test_secrets_are_usable_and_never_shown():
    config = load(SECRETS, {"KEY": "hemlig-3"})
    assert config.accounts[0].external_id.get_secret_value() == "hemlig-1"
    headers = {name: value.get_secret_value() for name, value in config.traces.headers.items()}
    assert headers == {"x-key": "hemlig-3", "authorization": "Basic bWU6aGVtbGlnLTIh"}
    assert config.traces.endpoint == "https://collector.example:4318/otlp"
    shown = repr(config) + str(config) + masked_yaml(config)
    assert SECRET not in shown
    assert "bWU6" not in shown


def test_the_masked_configuration_says_what_is_in_force_and_can_be_loaded():
    config = load_config(str(SHIPPED), environ={})
    assert load(masked_yaml(config)) == config
    shown = yaml.safe_load(masked_yaml(load(SECRETS, {"KEY": "hemlig-3"})))
    assert shown["accounts"][0]["external_id"] == "**********"
    assert shown["traces"]["headers"] == {"x-key": "**********", "authorization": "**********"}
    assert shown["watches"][0]["account"] == "x"


def test_a_budget_is_of_the_cause_else_of_the_first_status_that_fits_else_the_general_one():
    budget = load(
        WATCH + "traces: {budget: {per_minute: 5, causes: {throttled: 7}, statuses: {404: 1, 4xx: 2, 5xx: 0}}}\n"
    ).traces.budget

    assert budget.of(404, "throttled") == 7
    assert (budget.of(404, "x"), budget.of(403, "x"), budget.of(504, "x")) == (1, 2, 0)
    assert (budget.of(200, "x"), budget.of(None, "x")) == (5, 5)
    assert load(WATCH).traces.budget.of(403, "throttled") == 600


@pytest.mark.parametrize("value", ["hemlig", "[hemlig]", "{a: hemlig}", "hemlig://x", "http://[hemlig", "${V}"])
@pytest.mark.parametrize("key", ["endpoint", "headers", "timeout", "protocol", "link_template"])
def test_what_came_out_of_the_environment_is_in_no_message(key, value):
    variable = "http://hemlig:9/?hemlig" if value == "${V}" else value
    text = WATCH + f'traces: {{{key}: "${{VALUE}}"}}\n'
    config, error = outcome(text, {"VALUE": variable})
    assert config is not None or SECRET not in str(error)


# ------------------------------------------------------------------------------------------ documents tell the truth


def test_the_reference_of_the_documentation_is_made_from_the_models():
    """Mend it with `python tests/configuration_reference.py`."""
    assert PAGE.read_text(encoding="utf-8") == page_with(reference())


def test_every_key_has_a_meaning():
    schema = config_schema()
    assert not [
        path for path, key in all_keys(schema) if not followed(key, schema).get("description", key.get("description"))
    ]


def test_the_examples_of_the_documentation_load():
    for example in re.findall(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL):
        assert load(example, {"AWS_REGION": "eu-west-1"}).watches


# Keys that have no default to show: required ones, and those that an example makes clearer.
EXAMPLES = {("accounts",), ("accounts", 0, "regions"), ("watches",), ("watches", 0, "access_log")}
EXAMPLES |= {("watches", 0, "execution_log")}


def test_the_shipped_file_states_every_key_at_its_default():
    schema = config_schema()
    document = read_document(SHIPPED.read_text(encoding="utf-8"), {})
    stated = {tuple(0 if isinstance(part, int) else part for part in path) for path in document.lines}
    for path, key in all_keys(schema):
        if path[0] == "discover" and len(path) > 1:
            continue
        assert path in stated
        if "default" in key and path not in EXAMPLES and "properties" not in followed(key, schema):
            assert at(document.values, path) == key["default"], path


def test_the_shipped_file_says_nothing_but_defaults():
    assert load_config(str(SHIPPED), environ={}) == load_config(str(MINIMAL), environ={"AWS_REGION": "eu-west-1"})


def test_the_shipped_file_explains_every_key():
    lines = SHIPPED.read_text(encoding="utf-8").splitlines()
    document = read_document("\n".join(lines), {})
    for path, line in document.lines.items():
        if path and isinstance(path[-1], str):
            assert "#" in lines[line - 1] or lines[line - 2].lstrip().startswith("#"), path


def test_the_shipped_file_shows_discovery_at_its_defaults():
    text = SHIPPED.read_text(encoding="utf-8")
    block = text[text.index("# discover:\n") : text.index("\ndiscover: null")]
    shown = yaml.safe_load("\n".join(line.removeprefix("# ") for line in block.splitlines()))
    assert shown["discover"] == Discover.model_validate({}).model_dump(mode="json", by_alias=True)


def at(values, path):
    for part in path:
        values = values[part]
    return values


# -------------------------------------------------------------------------------------------------------------- schema


@pytest.mark.parametrize("path", [SHIPPED, MINIMAL])
def test_the_schema_accepts_what_the_loader_accepts(path):
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft202012Validator.check_schema(config_schema())
    jsonschema.validate(yaml.safe_load(path.read_text(encoding="utf-8")), config_schema())


@pytest.mark.parametrize(
    "name",
    [
        "bare_number",
        "duration_with_fraction",
        "number_too_small",
        "protocol_unknown",
        "size_without_unit",
        "statuses_empty",
        "text_instead_of_list",
        "too_many_calls",
        "unknown_key",
        "watch_without_name",
    ],
)
def test_the_schema_refuses_what_an_editor_can_see(name):
    jsonschema = pytest.importorskip("jsonschema")
    values = yaml.safe_load((BAD / f"{name}.yaml").read_text(encoding="utf-8"))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(values, config_schema())


def test_the_schema_leaves_room_for_variables():
    jsonschema = pytest.importorskip("jsonschema")
    labels = {"max_series": "${N}", "resource": "${F:-true}", "zero_hold": "${D:-2m}"}
    jsonschema.validate({"labels": labels}, config_schema())
