"""Reads the journal of a Chaos Toolkit run and says whether it shows what it should.

usage: journal.py JOURNAL held STRATEGY      the hypothesis held whenever it was looked at, and every step of the method did what it should
       journal.py JOURNAL deviated STRATEGY  it held before the method and broke under it or after it, because the app was not served
STRATEGY is how it was looked at: "continuously", or "default" for before and after. Says it in a line, and below it what speaks against it.

The exit status of `chaos` does not say as much: it is 0 even if an action failed, and the tolerances of probes within the method are not
looked at by anybody; so they are here. Runs in the environment of Chaos Toolkit.
"""

import json
import sys

from chaoslib.hypothesis import within_tolerance

# Two seconds of looking; with fewer, the hypothesis may have slept through the fault.
LOOKS_MIN = 5


def failures(journal, wanted, strategy):
    """What speaks against it."""
    states = journal["steady_states"]
    if not states["before"]["steady_state_met"]:
        yield "the hypothesis did not hold before the method"
    for step in journal["run"]:
        activity, output = step["activity"], step.get("output")
        if activity["type"] == "action":
            if step["status"] != "succeeded" or output["status"] != 0:
                yield f"{activity['name']}: {reason(step)}"
        # Without the sidecar there is nothing that its probes could see.
        elif wanted == "held" and step["status"] != "succeeded":
            yield f"{activity['name']}: {reason(step)}"
        elif wanted == "held" and not within_tolerance(activity["tolerance"], output):
            yield f"{activity['name']}: not so"
    for step in journal["rollbacks"]:
        if step["output"]["status"] != 0:
            yield f"rollback {step['activity']['name']}: {step['output']}"
    if wanted == "held":
        if journal["status"] != "completed" or journal["deviated"]:
            yield f"status {journal['status']}, deviated {journal['deviated']}"
        if broken(journal):
            yield f"broken meanwhile: {broken(journal)}"
        if strategy == "continuously" and checks(journal) < LOOKS_MIN:
            yield f"the hypothesis was looked at only {checks(journal)} times during the method"
    # The journal's flag "deviated" tells the last look only, and a backend that is half bad may pass that one by luck.
    elif not any(name.startswith("the-app-") for name in broken(journal)):
        yield f"status {journal['status']}, deviated {journal['deviated']}, by {broken(journal)}"


def reason(step):
    """Why an activity failed; of an exception the last line."""
    exception = step.get("exception")
    return exception[-1].strip() if exception else step.get("output")


def checks(journal):
    """How often the hypothesis was looked at while the method ran."""
    return len(journal["steady_states"]["during"])


def broken(journal):
    """The probes of the hypothesis that did not see what they should, ever."""
    states = journal["steady_states"]
    probes = [probe for state in [*states["during"], states["after"]] if state for probe in state["probes"]]
    return sorted({probe["activity"]["name"] for probe in probes if not probe.get("tolerance_met")})


def main():
    path, wanted, strategy = sys.argv[1:]
    try:
        with open(path, encoding="utf-8") as file:
            journal = json.load(file)
    except OSError as error:
        sys.exit(f"there is no journal: {error}")
    how = {
        "held": f"with the sidecar: held in {checks(journal)} looks meanwhile, and before and after",
        "deviated": f"without: deviated, by {', '.join(broken(journal))}",
    }
    print(f"{journal['experiment']['title']} ({how[wanted]})")
    found = list(failures(journal, wanted, strategy))
    for failure in found:
        print(f"      {failure}")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
