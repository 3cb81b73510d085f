"""The SQL that the offline model writes over the ledger: runs by outcome, spend by model, day, session or route. Pure."""

import re
from dataclasses import dataclass

GIVEN = re.compile(r"(?:^|:\s*|```(?:sql)?\s*)((?:select|with)\s[^;`]+)", re.IGNORECASE)
"""SQL that the user gives."""

_MONDAY = "CURRENT_DATE - EXTRACT(ISODOW FROM CURRENT_DATE)::int + 1"
_UNDERSTOOD = {
    "today": ("CURRENT_DATE", ""),
    "yesterday": ("CURRENT_DATE - 1", "CURRENT_DATE"),
    "this week": (_MONDAY, ""),
    "last week": (f"{_MONDAY} - 7", _MONDAY),
}
"""First day, and the day after the last ("": there is no end)."""
_NAMED = re.compile(rf"\b(?:{'|'.join(_UNDERSTOOD)})\b")
_LAST_DAYS = re.compile(r"\b(?:last|past)\s+(\d{1,4})\s+days?\b")
_GROUPED = re.compile(r"\b(?:by|per|each|every|a)\s+(?:day|hour|week|month|year)\b|\bdaily\b")
_TIME = re.compile(
    r"\b(?:minutes?|hours?|days?|weeks?|months?|quarters?|years?|weekends?|since|until|between|before|after|ago|recent\w*|tonight"
    r"|morning|(?:mon|tues|wednes|thurs|fri|satur|sun)day|(?:19|20)\d\d"
    r"|january|february|march|april|june|july|august|september|october|november|december)\b"
)
_KEYS = {"day": r"\bdays?\b|\bdaily\b", "session_id": r"\b(?:sessions?|conversations?)\b", "route": r"\broutes?\b"}
_RUNS = re.compile(r"\bruns?\b|\boutcomes?\b")
_MONEY = re.compile(r"\bcosts?\b|\bspen[dt]|\btokens?\b|\busd\b|\bexpensive\b")


@dataclass(frozen=True, slots=True)
class Period:
    """Days in UTC as SQL, the end excluded; empty where there is no bound."""

    words: str
    since: str = ""
    until: str = ""

    def bounds(self, column: str) -> list[str]:
        """Conditions on a column of type date or timestamptz."""
        return [f"{column} {sign} {day}" for sign, day in ((">=", self.since), ("<", self.until)) if day]


def period(question: str) -> Period:
    """The time that the question names, or all time."""
    words = question.lower()
    if (last := _LAST_DAYS.search(words)) and int(last[1]):
        return Period(f"the last {last[1]} days, today included", f"CURRENT_DATE - {int(last[1]) - 1}")
    if named := _NAMED.search(words):
        return Period(named[0], *_UNDERSTOOD[named[0]])
    return Period("all time")


def describe_period(question: str) -> str:
    """A sentence that says of which time the figures are; empty when the user gave the SQL."""
    if GIVEN.search(question):
        return ""
    found = period(question)
    if not found.since and _TIME.search(_GROUPED.sub("", question.lower())):
        known = ", ".join(_UNDERSTOOD)
        return f"I did not understand the time in the question ({known} and last N days I do), so these figures are of all time."
    return f"These figures are of {found.words} (days in UTC)."


def sql_for(question: str) -> str:
    """The SQL that the question gives, or one that fits it."""
    if given := GIVEN.search(question):
        return given[1].strip()
    words = question.lower()
    grouped = " ".join([*_GROUPED.findall(words), _TIME.sub("", words)])
    key = next((key for key, pattern in _KEYS.items() if re.search(pattern, grouped)), "")
    if _RUNS.search(words) and not _MONEY.search(words):
        return _runs(key or "outcome", period(question))
    return _usage(key or "model", period(question))


def _runs(key: str, when: Period) -> str:
    # A run that goes on, as the one that asks does, has no outcome yet.
    where = " AND ".join(["outcome IS NOT NULL", *when.bounds("created_at")])
    column = "created_at::date AS day" if key == "day" else key
    order = "day DESC" if key == "day" else "runs DESC"
    return f"SELECT {column}, count(*) AS runs\nFROM slipway_data.runs\nWHERE {where}\nGROUP BY {key}\nORDER BY {order}"


def _usage(key: str, when: Period) -> str:
    bounds = " AND ".join(when.bounds("day"))
    where = f"\nWHERE {bounds}" if bounds else ""
    order = "day DESC" if key == "day" else "cost_usd DESC NULLS LAST"
    return (
        f"SELECT {key}, count(*) AS model_calls, sum(input_tokens + output_tokens) AS tokens, sum(cost_usd) AS cost_usd\n"
        f"FROM slipway_data.usage{where}\nGROUP BY {key}\nORDER BY {order}"
    )
