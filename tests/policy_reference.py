"""The policy shown in docs/security.md, made by `iam-policy` from the configuration of docs/getting-started.md.

`python -m tests.policy_reference` writes it; a test of test_documents.py fails while it differs.
"""

import re
from pathlib import Path

from exporter.config import load_config
from exporter.iam import OWN, policies, policy_json

DOCS = Path(__file__).parent.parent / "docs"
PAGE = DOCS / "security.md"
FIRST_EXAMPLE = re.compile(r"^```yaml\n(# exporter\.yaml\n.*?)^```$", re.DOTALL | re.MULTILINE)


def generated() -> dict[str, str]:
    """The parts of the page, by the names in their comments."""
    found = FIRST_EXAMPLE.search((DOCS / "getting-started.md").read_text(encoding="utf-8"))
    assert found is not None
    config = load_config("exporter.yaml", text=found[1])
    policy = policy_json(policies(config, account_id="123456789012")[OWN])
    return {"policy": f"```json\n{policy}\n```\n"}


if __name__ == "__main__":
    from tests.pages import rewrite

    rewrite(PAGE, generated())
