"""Reads the journal of a Chaos Toolkit run and says whether it shows what it should.

usage: journal.py JOURNAL held      the hypothesis held all the time, and every step of the method did what it should
       journal.py JOURNAL deviated  the hypothesis held before the method and broke under it, because the app was not served

The exit status of `chaos` does not say as much: it is 0 even if an action failed, and the tolerances of probes within the method are not
looked at by anybody; so they are here. Runs in the environment of Chaos Toolkit.
"""

import json
import sys

from chaoslib.hypothesis import within_tolerance


def failures(journal, wanted):
    """What speaks against it."""
    states = journal["steady_states"]
    if not states["before"]["steady_state_met"]:
        yield "the hypothesis did not hold before the method"
    for step in journal["run"]:
        activity, output = step["activity"], step.get("output")
        if step["status"] != "succeeded" or (activity["type"] == "action" and output["status"] != 0):
            yield f"{activity['name']}: {step.get('exception') or output}"
        elif wanted == "held" and activity["type"] == "probe" and not within_tolerance(activity["tolerance"], output):
            yield f"{activity['name']}: not so"
    for step in journal["rollbacks"]:
        if step["output"]["status"] != 0:
            yield f"rollback {step['activity']['name']}: {step['output']}"
    if wanted == "held":
        if journal["status"] != "completed" or journal["deviated"]:
            yield f"status {journal['status']}, deviated {journal['deviated']}"
        if broken(journal):
            yield f"broken meanwhile: {broken(journal)}"
        if checks(journal) < 5:
            yield f"the hypothesis was looked at only {checks(journal)} times during the method"
    elif not journal["deviated"] or not any(name.startswith("the-app-") for name in broken(journal)):
        yield f"deviated {journal['deviated']}, by {broken(journal)}"


def checks(journal):
    """How often the hypothesis was looked at while the method ran."""
    return len(journal["steady_states"]["during"])


def broken(journal):
    """The probes of the hypothesis that did not see what they should, ever."""
    states = journal["steady_states"]
    probes = [probe for state in [*states["during"], states["after"]] if state for probe in state["probes"]]
    return sorted({probe["activity"]["name"] for probe in probes if not probe.get("tolerance_met")})


def main():
    path, wanted = sys.argv[1:]
    with open(path, encoding="utf-8") as file:
        journal = json.load(file)
    found = list(failures(journal, wanted))
    for failure in found:
        print(f"      {failure}")
    how = {
        "held": f"with the sidecar: held in {checks(journal)} looks",
        "deviated": f"without: deviated, by {', '.join(broken(journal))}",
    }
    print("FAIL" if found else "ok  ", f"{journal['experiment']['title']} ({how[wanted]})")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
