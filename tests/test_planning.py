"""Plans: no log group is read by two watches, whatever is configured; what many watches have in common is there once."""

import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from exporter.config import load_config
from exporter.planning import Planner


def config_of(groups: list[tuple[int, int]]):
    """A configuration whose watches read an access group and an execution group, by number."""
    lines = [
        f"  - {{name: w{number}, region: eu-west-1, access_log: {{group: access/{access}}}, "
        f"execution_log: {{group: execution/{execution}}}}}"
        for number, (access, execution) in enumerate(groups)
    ]
    return load_config("exporter.yaml", text="\n".join(["watches:", *lines]), environ={})


def parts_of(groups: list[tuple[int, int]]) -> set[frozenset[str]]:
    """Watches that share a group, directly or through others, by name: tried until nothing changes."""
    parts = [({f"w{number}"}, {("a", access), ("e", execution)}) for number, (access, execution) in enumerate(groups)]
    merging = True
    while merging:
        merging = False
        for one in parts:
            for other in parts:
                if one is not other and one[1] & other[1]:
                    one[0].update(other[0])
                    one[1].update(other[1])
                    parts.remove(other)
                    merging = True
                    break
            if merging:
                break
    return {frozenset(names) for names, _ in parts}


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=10))
def test_watches_that_share_a_group_become_one_and_no_others(groups):
    config = config_of(groups)
    specs = Planner().plan(config, config.watches)
    assert {frozenset(spec.name.split("+")) for spec in specs} == parts_of(groups)
    read = [item.group for spec in specs for item in spec.groups]
    assert len(read) == len(set(read)) == len({("a", a) for a, _ in groups} | {("e", e) for _, e in groups})


def test_a_thousand_watches_take_little_memory_to_plan():
    config = config_of([(number, number) for number in range(1_000)])
    Planner().plan(config, config.watches[:1])
    tracemalloc.start()
    try:
        specs = Planner().plan(config, config.watches)
        size = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert len(specs) == 1_000
    assert size / 1_000 < 8_192, "the readers of AWS's formats are compiled once for all"
