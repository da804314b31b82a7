"""What may go wrong between a reader and CloudWatch Logs: one switch each, all off."""

from collections import deque
from dataclasses import dataclass, field, fields
from enum import StrEnum


class Fault(StrEnum):
    """What may happen to one call."""

    NONE = "none"
    THROTTLE = "ThrottlingException"
    SERVER_ERROR = "InternalFailure"
    UNAVAILABLE = "ServiceUnavailableException"
    EXPIRED = "ExpiredTokenException"
    DENIED = "AccessDeniedException"
    MISSING = "ResourceNotFoundException"
    REFUSED_TOKEN = "InvalidParameterException"
    RESET = "reset"
    """The connection is reset instead of an answer."""
    RESET_MIDWAY = "reset midway"
    """Half of the body, then the connection is reset."""
    STALL = "stall"
    """Half of the body, then nothing more, until the reader closes the connection."""
    GARBLED = "garbled"
    """Half of the body, then bytes that are no TLS. Only for a fake with a certificate."""
    CUT = "cut"
    """Half of the body, then the connection ends, against the Content-Length."""
    CUT_CLEAN = "cut clean"
    """Half of the body with a Content-Length that agrees, as a broken proxy does."""
    HTML = "html"
    """A proxy's page, with status 200."""
    HTML_ERROR = "html error"
    """A load balancer's 503 page."""
    SLOW = "slow"
    EMPTY = "empty"
    """A page without events, with a token, that stands in place of the page asked for."""
    SAME_TOKEN = "same token"
    """The page asked for, with the very token it was asked for (a first page: the token of itself)."""
    REPEATED_PAGE = "repeated page"
    """The page asked for, with a new token that leads to it again."""


@dataclass
class Faults:
    """Switches; may be changed while the fake runs. Probabilities are per call, from the fake's seed."""

    script: deque[Fault] = field(default_factory=deque)
    """What happens to the next calls, one each; before everything else."""

    throttled: float = 0.0
    server_errors: float = 0.0
    """500, 503 as JSON and 503 as HTML, in turns."""
    resets: float = 0.0
    """Before the answer and in the middle of its body, in turns."""
    cuts: float = 0.0
    """Both kinds of cut body, in turns."""
    slow: float = 0.0
    slow_seconds: float = 0.2
    same_tokens: float = 0.0
    refused_tokens: float = 0.0
    """Only calls that come with a token."""
    repeated_pages: float = 0.0
    empty_pages: float = 0.0
    """Independent of the three below."""

    empty_first: int = 0
    """So many empty pages before the first page of a listing,"""
    empty_middle: int = 0
    """before each page that follows one,"""
    empty_last: int = 0
    """and behind the last."""
    endless: bool = False
    """A listing goes on with empty pages for ever."""
    endless_repeats: bool = False
    """A listing gives its last page again for ever, under new tokens."""

    expired: bool = False
    denied: bool = False
    sts_down: bool = False

    def set(self, name: str, value: float) -> None:
        """Set a switch by its name; unknown names are refused."""
        if name not in {known.name for known in fields(self)} - {"script"}:
            raise ValueError(f"no such fault: {name}")
        setattr(self, name, value)

    def chances(self) -> list[tuple[float, tuple[Fault, ...]]]:
        """The probabilities, and what they bring."""
        return [
            (self.throttled, (Fault.THROTTLE,)),
            (self.server_errors, (Fault.SERVER_ERROR, Fault.UNAVAILABLE, Fault.HTML_ERROR)),
            (self.resets, (Fault.RESET, Fault.RESET_MIDWAY)),
            (self.cuts, (Fault.CUT, Fault.CUT_CLEAN)),
            (self.slow, (Fault.SLOW,)),
            (self.same_tokens, (Fault.SAME_TOKEN,)),
            (self.refused_tokens, (Fault.REFUSED_TOKEN,)),
            (self.repeated_pages, (Fault.REPEATED_PAGE,)),
            (self.empty_pages, (Fault.EMPTY,)),
        ]
