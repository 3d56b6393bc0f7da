"""`python -m tests.chaos --seconds 60 --seed 7`: one chaos run; exits with 1 if the audit finds anything."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from pathlib import Path

import anyio

from tests.chaos.run import Outcome, Plan, chaos


def main() -> int:
    """Run and print one line, and below it what was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long things go wrong")
    parser.add_argument("--seed", type=int, default=None, help="default: drawn, and printed")
    parser.add_argument("--tasks", type=int, default=1000)
    parser.add_argument("--verbose", action="store_true", help="say what is done to whom")
    arguments = parser.parse_args()
    seed = random.SystemRandom().randrange(10**6) if arguments.seed is None else arguments.seed
    plan = Plan(arguments.seconds, seed, arguments.tasks)
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        said: list[str] = []
        say = print if arguments.verbose else said.append
        outcome = anyio.run(chaos, plan, Path(folder), say)
    print(summary(plan, outcome))
    for problem in outcome.verdict.problems():
        print(problem, file=sys.stderr)
    return 1 if outcome.verdict.problems() else 0


def summary(plan: Plan, outcome: Outcome) -> str:
    """Return the line that a chaos run ends with."""
    found = outcome.verdict
    return (
        f"chaos: seed {plan.seed}, tasks {outcome.tasks}, lost {len(found.lost)}, "
        f"duplicated {len(found.duplicated)}, stale writes accepted {len(found.stale)}, "
        f"owner-less {len(found.ownerless)}"
    )


if __name__ == "__main__":
    sys.exit(main())
