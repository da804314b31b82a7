"""Small charts over time, as SVG in the page: bars of one colour, told in words for those who do not see them.

Everything that is drawn is counted elsewhere; the colours are the page's.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from exporter.failures.markup import Markup, tag
from exporter.failures.minutes import MINUTE_MS
from exporter.failures.wording import clock_time, counted

BARS = 60
_BAR, _GAP, _HEIGHT, _LEAST = 4, 1, 40, 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Axis:
    """A stretch of time, cut into equal bars of whole minutes."""

    start_ms: int
    bar_ms: int
    bars: int = BARS

    @property
    def end_ms(self) -> int:
        """Where the last bar ends."""
        return self.start_ms + self.bars * self.bar_ms

    def heights(self, counts: Iterable[tuple[int, int]]) -> list[int]:
        """Counts with their times, summed up by bar."""
        heights = [0] * self.bars
        for at_ms, count in counts:
            heights[(at_ms - self.start_ms) // self.bar_ms] += count
        return heights


def axis_of(start_ms: int, end_ms: int) -> Axis:
    """An axis from about `start_ms` until after `end_ms`: of an hour at least, a bar a minute or more."""
    length_ms = max(end_ms - start_ms, (BARS - 1) * MINUTE_MS)
    bar_ms = (length_ms // (BARS - 1) + MINUTE_MS - 1) // MINUTE_MS * MINUTE_MS
    last_ms = (end_ms - 1) // bar_ms * bar_ms
    return Axis(start_ms=last_ms - (BARS - 1) * bar_ms, bar_ms=bar_ms)


def chart(axis: Axis, heights: Sequence[int], of_what: str) -> Markup:
    """Bars, the highest as high as the chart."""
    highest = max(heights)
    bars = []
    for number, height in enumerate(heights):
        if height:
            tall = max(_LEAST, round(height * (_HEIGHT - 1) / highest))
            bars.append(f"M{number * _BAR} {_HEIGHT}v-{tall}h{_BAR - _GAP}v{tall}z")
    return tag(
        "svg",
        {
            "viewBox": f"0 0 {axis.bars * _BAR} {_HEIGHT}",
            "preserveAspectRatio": "none",
            "role": "img",
            "aria-label": f"{of_what}: {in_words(axis, heights)}",
        },
        tag("path", {"class": "ground", "d": f"M0 {_HEIGHT - 0.5}h{axis.bars * _BAR}"}),
        tag("path", {"class": "bars", "d": "".join(bars)}),
    )


def in_words(axis: Axis, heights: Sequence[int]) -> str:
    """What the chart shows."""
    highest = max(heights)
    told = f"{counted(sum(heights), 'failure')} between {clock_time(axis.start_ms)} and {clock_time(axis.end_ms)} UTC"
    if not highest:
        return told
    peak_ms = axis.start_ms + heights.index(highest) * axis.bar_ms
    return f"{told}, at most {highest:,} in {length_of_a_bar(axis)}, from {clock_time(peak_ms)}"


def length_of_a_bar(axis: Axis) -> str:
    """What one bar stands for."""
    minutes = axis.bar_ms // MINUTE_MS
    return "a minute" if minutes == 1 else f"{minutes} minutes"
