"""The pictures of traces in the documents are what the exporter makes of requests today."""

import pytest

from exporter.rules import shipped_rules
from tests import trace_gallery


@pytest.fixture(scope="module")
def drawn():
    return trace_gallery.failures()


def test_the_gallery_shows_every_cause_and_is_what_is_drawn_today(drawn):
    assert drawn.keys() == shipped_rules().causes.keys()
    assert all(failure.cause == cause for cause, failure in drawn.items())
    assert trace_gallery.GALLERY.read_text(encoding="utf-8") == trace_gallery.gallery(drawn)


def test_the_pictures_of_the_page_are_what_is_drawn_today(drawn):
    page = trace_gallery.PAGE.read_text(encoding="utf-8")

    assert page.count("drawn by tests/trace_gallery.py") == 3
    assert page == trace_gallery.page_with(drawn)
