"""`python -m bench`, or `make bench`: Slipway beside the tutorial way and the direct line to a fake model."""

import argparse
import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import uvloop

from bench.client import WrongAnswer
from bench.docs import write
from bench.figures import Results, everything
from bench.goals import table
from bench.run import named, run
from bench.scenarios import SCENARIOS
from bench.stage import FULL, QUICK, Scenario

ROOT = Path(__file__).parent.parent

WRONG, USAGE, FAILED = 1, 2, 3

EXAMPLES = """\
examples:
  make bench                                            all scenarios, at most 15 minutes
  make bench-quick                                      the main ones, at most 2 minutes
  python -m bench --list                                what there is
  python -m bench --only paced --only tool              two of them
  make bench ARGS="--json bench.json --write-docs"      writes docs/performance.md and its plots, too
  python -m bench --read bench.json                     the tables of an earlier run, without measuring

The service has core 0 to itself; PostgreSQL, the model and the load share core 1. Run it on an idle machine with two
cores or more (Linux). Figures are medians [least-largest] of interleaved repetitions; ratios carry over to other
machines, figures do not.

exit codes: 0 measured; 1 a token was wrong or missing; 2 usage; 3 a scenario failed, the others were measured
"""


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m bench", description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--list", action="store_true", help="list the scenarios, then end")
    made.add_argument("--only", action="append", metavar="SCENARIO", default=[], help="only this one; may be given again")
    made.add_argument("--quick", action="store_true", help="the main scenarios, with two short repetitions each")
    made.add_argument("--minutes", type=float, metavar="N", help="of all scenarios together: 15, with --quick 2")
    made.add_argument("--json", type=Path, metavar="FILE", help="write every value there")
    made.add_argument("--write-docs", action="store_true", help="write docs/performance.md and its plots, of a whole run")
    made.add_argument("--read", type=Path, metavar="FILE", help="measure nothing: take what --json wrote")
    return made


def chosen(arguments: argparse.Namespace) -> list[Scenario]:
    """Raises KeyError with the name of a scenario that there is not."""
    if arguments.only:
        return named(arguments.only, SCENARIOS)
    return [scenario for scenario in SCENARIOS if scenario.quick or not arguments.quick]


def report(results: Results) -> str:
    """The goals, then everything that was measured."""
    parts = [
        "; ".join(f"{name} {value}" for name, value in results.environment.items()),
        table(results),
        everything(results.rows.values()),
        *(f"{name} FAILED: {reason}" for name, reason in results.failed.items()),
    ]
    return "\n\n".join(parts)


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parser().parse_args(argv)
    try:
        scenarios = chosen(arguments)
    except KeyError as unknown:
        print(f"--only {unknown.args[0]}: no such scenario; there are {', '.join(s.name for s in SCENARIOS)}", file=sys.stderr)
        return USAGE
    if arguments.write_docs and (arguments.quick or arguments.only):
        print("--write-docs: expected a whole run, without --quick and --only", file=sys.stderr)
        return USAGE
    if arguments.list:
        for scenario in scenarios:
            print(f"{scenario.name:10} {'quick  ' if scenario.quick else '       '}{scenario.what}")
        return 0
    try:
        results = _measured(arguments, scenarios)
    except WrongAnswer as wrong:
        print(f"WRONG: {wrong}", file=sys.stderr)
        return WRONG
    except (OSError, ValueError, KeyError, TypeError) as error:
        if not arguments.read:
            raise
        print(f"--read {arguments.read}: expected a file that --json wrote: {type(error).__name__}: {error}", file=sys.stderr)
        return USAGE
    print(report(results))
    if arguments.write_docs:
        print(*(f"wrote {file}" for file in write(results, ROOT)), sep="\n")
    return FAILED if results.failed else 0


def _measured(arguments: argparse.Namespace, scenarios: Sequence[Scenario]) -> Results:
    if arguments.read:
        return Results.from_json(json.loads(arguments.read.read_text(encoding="utf-8")))
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell takes away from what runs in the background
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))  # servers and their files go with it
    effort = QUICK if arguments.quick else FULL
    results = uvloop.run(run(scenarios, effort, effort.minutes if arguments.minutes is None else arguments.minutes))
    if arguments.json:
        arguments.json.write_text(json.dumps(results.as_json(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return results


if __name__ == "__main__":
    raise SystemExit(main())
