"""The support case: one request, or the few that fit, out of the log groups that are watched, and all that is known.

`query` says what is looked for, `headers` reads it out of a pasted response, `patterns` words it for the service,
`stretches` says in which order to look, `reading` lists, `searching` puts it together, `picture` shows what was found.
It needs no daemon and no state; it asks CloudWatch Logs through the same sources and within the same budget.
"""

from exporter.find.headers import PastedIds, read_headers
from exporter.find.picture import Picture, picture_of, render_list, render_picture
from exporter.find.query import Query
from exporter.find.searching import Findings, Found, Search

__all__ = [
    "Findings",
    "Found",
    "PastedIds",
    "Picture",
    "Query",
    "Search",
    "picture_of",
    "read_headers",
    "render_list",
    "render_picture",
]
