"""Text that others wrote, made fit for a status, an Event or a log line."""

import unicodedata

SHORT = 300
"""Characters of somebody else's words: enough for an error message, too few to fill a status with."""


def plain(text: object, limit: int = SHORT) -> str:
    """One line of at most `limit` characters without control, format or surrogate characters (Unicode's category C)."""
    # Cut before the walk: what is left of a text of megabytes does not depend on its end.
    given = str(text)[: 4 * limit]
    if not given.isprintable():  # it has one of the categories C or Z beside the space
        given = "".join(" " if unicodedata.category(each).startswith(("C", "Z")) else each for each in given)
    line = " ".join(given.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"
