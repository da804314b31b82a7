"""This program's version, as its installed package says."""

from importlib.metadata import PackageNotFoundError, version

try:
    VERSION = version("apigateway-exporter")
except PackageNotFoundError:  # run from a source tree that was never installed
    VERSION = "0.0.0"
