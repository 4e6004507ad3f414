"""Asks a Prometheus every query of the dashboard, over everything that it has seen, and fails if one has nothing to show; and whether its rules work.

usage: dashboard.py PROMETHEUS_URL [DASHBOARD]
"""

import json
import math
import sys
import time
import urllib.parse
import urllib.request

DASHBOARD = "k8s/monitoring/dashboard.json"
# As Grafana does it: at least four scrapes; here one is made each second.
VARIABLES = {"$__rate_interval": "5s", "$job": ".*", "$upstream": ".*"}
STEP_S = 1
SEEN_S = 3600
# Fewer, and it has not read k8s/monitoring/rules.yml.
RULES_MIN = 14
# Which no Prometheus has: whoever finds something here looks at nothing.
NEVER = 'sum(rate(outrigger_no_such_family_total{job=~"$job"}[$__rate_interval]))'


def queries(panel):
    """Title and expression of each target, of the panels inside it too."""
    for target in panel.get("targets", []):
        yield panel["title"], target["expr"]
    for inner in panel.get("panels", []):
        yield from queries(inner)


def shows(url, expression):
    """How many series the query returned with a number in them."""
    for variable, value in VARIABLES.items():
        expression = expression.replace(variable, value)
    if "$" in expression:
        raise ValueError(f"a variable that is not known: {expression}")
    now = time.time()
    asked = urllib.parse.urlencode({"query": expression, "start": now - SEEN_S, "end": now, "step": STEP_S})
    with urllib.request.urlopen(f"{url}/api/v1/query_range?{asked}", timeout=20) as answer:
        result = json.load(answer)["data"]["result"]
    return sum(any(not math.isnan(float(value)) for _, value in series["values"]) for series in result)


def troubled_rules(url):
    """Rules of this Prometheus that cannot be evaluated, or have recorded nothing."""
    with urllib.request.urlopen(f"{url}/api/v1/rules", timeout=20) as answer:
        groups = json.load(answer)["data"]["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    if len(rules) < RULES_MIN:
        yield f"it has {len(rules)} rules only"
    for rule in rules:
        if rule["health"] != "ok":
            yield f"rule {rule['name']}: {rule['health']} {rule.get('lastError', '')}"
        if rule["type"] == "recording" and not shows(url, rule["name"]):
            yield f"rule {rule['name']} has recorded nothing"


def problems(dashboard):
    """What Grafana would stumble over, or people."""
    panels = dashboard["panels"]
    ids = [panel["id"] for panel in panels]
    if len(set(ids)) != len(ids):
        yield "two panels have the same id"
    for panel in panels:
        place = panel["gridPos"]
        if place["x"] + place["w"] > 24:
            yield f"{panel['title']}: wider than the page"
        if panel["type"] != "row" and not panel["fieldConfig"]["defaults"].get("unit"):
            yield f"{panel['title']}: has no unit"
        if panel["type"] != "row" and not panel.get("targets"):
            yield f"{panel['title']}: asks nothing"
    for one in panels:
        for other in panels:
            if one["id"] < other["id"] and overlap(one["gridPos"], other["gridPos"]):
                yield f"{one['title']} lies on {other['title']}"


def overlap(one, other):
    return all(one[at] < other[at] + other[size] and other[at] < one[at] + one[size] for at, size in (("x", "w"), ("y", "h")))


def main():
    url, path = sys.argv[1], (sys.argv[2:] or [DASHBOARD])[0]
    with open(path, encoding="utf-8") as file:
        dashboard = json.load(file)
    found = list(problems(dashboard))
    if shows(url, NEVER):
        found.append("this check sees series where there are none")
    asked = [(title, expression) for panel in dashboard["panels"] for title, expression in queries(panel)]
    found += [f"{title}: nothing from {expression}" for title, expression in asked if not shows(url, expression)]
    found += troubled_rules(url)
    for problem in found:
        print(f"      {problem}")
    print(f"      {len(asked)} queries of {len(dashboard['panels'])} panels asked, over {SEEN_S} s")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
