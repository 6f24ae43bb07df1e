#!/usr/bin/env python3
"""Checks the #include lines of every area against the table of areas in docs/architecture.md: an area may include itself and the
areas that its row names, it must include each of those, and the rows are in order, lowest area first."""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
INCLUDE = re.compile(r'^\s*#include "pgolf/(\w+)/', re.MULTILINE)
ROW = re.compile(r"^\| `(\w+)` \| .* \| ([^|]*) \|$", re.MULTILINE)


def table(text):
    """Area -> the areas that its row names, in the rows' order."""
    areas = text[text.index("\n## Areas\n") :]
    areas = areas[: areas.index("\n\n`")] if "\n\n`" in areas else areas
    rows = {}
    for area, knows in ROW.findall(areas):
        knows = re.sub(r"\([^)]*\)", "", knows)
        rows[area] = [] if knows.strip() == "nothing" else [name.strip() for name in knows.split(",")]
    return rows


def includes():
    """Area -> areas that it includes -> one file that does."""
    found = {}
    for top in (ROOT / "include/pgolf", ROOT / "src"):
        for path in sorted(top.rglob("*")):
            if path.suffix not in (".h", ".cpp", ".cu", ".cuh") or path.parent == top:
                continue
            area = path.relative_to(top).parts[0]
            for other in INCLUDE.findall(path.read_text()):
                if other != area:
                    found.setdefault(area, {}).setdefault(other, path.relative_to(ROOT))
    return found


def main():
    rows, found = table((ROOT / "docs/architecture.md").read_text()), includes()
    order = list(rows)
    problems = [f"src/{path.name} has no row in docs/architecture.md" for path in sorted((ROOT / "src").iterdir())
                if path.is_dir() and path.name not in rows]
    for area, others in found.items():
        for other, path in others.items():
            if other not in rows.get(area, []):
                problems.append(f"{path} includes {other}, which the row of {area} does not name")
    for area, knows in rows.items():
        for other in knows:
            if other not in found.get(area, {}):
                problems.append(f"the row of {area} names {other}, which {area} does not include")
            elif order.index(other) > order.index(area):
                problems.append(f"{area} includes {other}, whose row comes after its own: {found[area][other]}")
    for problem in problems:
        print(problem)
    print(f"{len(rows)} areas, {sum(map(len, rows.values()))} dependencies, {len(problems)} problems")
    return 1 if problems or not rows else 0


if __name__ == "__main__":
    sys.exit(main())
