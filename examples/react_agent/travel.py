"""A ReAct agent on two tools, as `create_agent` makes it: no Slipway import."""

import csv
import re
from pathlib import Path
from typing import Any

from langchain.agents import create_agent
from langchain_core.tools import tool
from langgraph.graph.state import CompiledStateGraph

TIMETABLE = Path(__file__).parent / "timetable.csv"
SHOWN = 5

LINEAR = {
    "km": ("length", 1.0),
    "mile": ("length", 1.609344),
    "m": ("length", 0.001),
    "kg": ("mass", 1.0),
    "pound": ("mass", 0.45359237),
    "litre": ("volume", 1.0),
    "gallon": ("volume", 3.785411784),
}
"""Kind of each unit, and its size in the first unit of that kind (US gallon)."""

QUANTITY = re.compile(r"(-?\d+(?:\.\d+)?)\s*°?([a-z]+)\s+(?:in|into|to|as)\s+°?([a-z]+)", re.IGNORECASE)
TIME = re.compile(r"\b([01]?\d|2[0-3]):([0-5]\d)\b")


@tool
def convert_units(quantity: str) -> str:
    """Converts a quantity to another unit of length, mass, volume or temperature, such as "12 km in miles"."""
    match = QUANTITY.search(quantity)
    if not match:
        return "Write the quantity, its unit and the wanted unit: 12 km in miles."
    amount, source, target = float(match[1]), _unit(match[2]), _unit(match[3])
    result = _convert(amount, source, target)
    if result is None:
        return f"Cannot convert {match[2]} to {match[3]}. Units: {', '.join([*LINEAR, 'celsius', 'fahrenheit'])}."
    return f"{amount:g} {match[2]} = {result:.4g} {match[3]}"


@tool
def next_departures(station: str, after: str = "") -> str:
    """Lists the next trains that leave a station of the timetable, after a time of day such as 09:30."""
    rows = list(csv.DictReader(TIMETABLE.read_text(encoding="utf-8").splitlines()))
    stations = sorted({row["station"] for row in rows})
    asked = next((name for name in stations if name.lower() in station.lower()), None)
    if asked is None:
        return f"No such station. The timetable has {', '.join(stations)}."
    since = _time(after or station)
    trains = [row for row in rows if row["station"] == asked and row["time"] >= since][:SHOWN]
    listed = [f"{row['time']} line {row['line']} to {row['destination']}" for row in trains]
    return f"From {asked}: " + ("; ".join(listed) or "no more trains today")


def build(context: Any) -> CompiledStateGraph:
    """`context` is what Slipway hands to a factory; this one needs its chat model."""
    prompt = "You help travellers. Use the tools for departures and conversions; say so when they do not know."
    return create_agent(context.chat_model, [convert_units, next_departures], system_prompt=prompt)


def _convert(amount: float, source: str, target: str) -> float | None:
    if (source, target) == ("celsius", "fahrenheit"):
        return amount * 9 / 5 + 32
    if (source, target) == ("fahrenheit", "celsius"):
        return (amount - 32) * 5 / 9
    if source not in LINEAR or target not in LINEAR or LINEAR[source][0] != LINEAR[target][0]:
        return None
    return amount * LINEAR[source][1] / LINEAR[target][1]


def _unit(word: str) -> str:
    short = {"c": "celsius", "f": "fahrenheit", "lb": "pound", "lbs": "pound", "l": "litre", "liter": "litre", "liters": "litre"}
    word = word.lower()
    return short.get(word) or (word if word in LINEAR else word.removesuffix("s") if word != "celsius" else word)


def _time(text: str) -> str:
    """The first time of day in a text as HH:MM, midnight without one."""
    match = TIME.search(text)
    return f"{int(match[1]):02}:{match[2]}" if match else "00:00"
