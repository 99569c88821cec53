"""The console: progress and warnings go to stderr, so that stdout carries tables or one JSON document alone."""

from rich.console import Console

console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)


def duration(seconds: float) -> str:
    """Return a duration in words, as in ``1 h 05 min``, ``3 min 20 s`` or ``12 s``."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {seconds:02d} s" if minutes else f"{seconds} s"
