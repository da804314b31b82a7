"""A cloud to try the exporter on: no account, no set-up.

`DemoCloud` runs it, `demo_config_text` and `demo_environ` are what the daemon needs to read it as it reads AWS.
"""

from exporter.sources.demo.cloud import DemoCloud, DemoUnavailable, demo_config_text, demo_environ

__all__ = ["DemoCloud", "DemoUnavailable", "demo_config_text", "demo_environ"]
