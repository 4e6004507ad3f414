"""Everything of k8s/ as kustomize puts it out, held against the schemas of Kubernetes, the restricted profile, and its own rules.

usage: manifests.py          checks; the last line counts
       manifests.py write    writes prometheus-rule.yaml from rules.yml

Runs in .venv (ci/requirements.txt has the schemas); needs kubectl for its kustomize, no cluster.
"""

import copy
import subprocess
import sys

import jsonschema
import kubernetes_validate
import yaml

# What is applied, and the versions of Kubernetes that it is meant for. A native sidecar is on from 1.29; 1.28's schema knows it already.
TREES = {
    "k8s": ["1.29", "1.34"],
    "k8s/overlays/pre-1.29": ["1.25", "1.28"],
    "k8s/examples/job": ["1.29", "1.34"],
    "k8s/examples/job-pre-1.29": ["1.25", "1.28"],
    "k8s/monitoring": ["1.29", "1.34"],
}
RULES = "k8s/monitoring/rules.yml"
RULE_OBJECT = "k8s/monitoring/prometheus-rule.yaml"
DASHBOARD = "k8s/monitoring/dashboard.json"


def strict(required, **optional):
    """A schema of an object with these keys and no others; `required` is a list of the names that must be there."""
    return {"type": "object", "additionalProperties": False, "required": required, "properties": optional}


TEXT = {"type": "string"}
TEXTS = {"type": "object", "additionalProperties": TEXT}
DURATION = {"type": "string", "pattern": "^([0-9]+(ms|s|m|h|d))+$"}
META = strict(["name"], name=TEXT, namespace=TEXT, labels=TEXTS, annotations=TEXTS)
RULE = strict(["expr"], record=TEXT, alert=TEXT, expr=TEXT, labels=TEXTS, annotations=TEXTS, **{"for": DURATION})
GROUP = strict(["name", "rules"], name=TEXT, interval=DURATION, rules={"type": "array", "items": RULE})
ENDPOINT = strict(["port"], port=TEXT, path=TEXT, interval=DURATION, scrapeTimeout=DURATION, honorLabels={"type": "boolean"})
# Of the operator's kinds the part that is used here, by its API reference; Kubernetes itself has no schema of them.
OPERATOR = {
    "PodMonitor": strict(
        ["selector", "podMetricsEndpoints"],
        selector=strict(["matchLabels"], matchLabels=TEXTS),
        podMetricsEndpoints={"type": "array", "minItems": 1, "items": ENDPOINT},
    ),
    "PrometheusRule": strict(["groups"], groups={"type": "array", "items": GROUP}),
}


def rendered(tree):
    out = subprocess.run(["kubectl", "kustomize", tree], check=True, capture_output=True, text=True).stdout
    return [document for document in yaml.safe_load_all(out) if document]


def faults(document, version):
    """What is wrong with one object, for this version of Kubernetes."""
    kind = document["kind"]
    if kind in OPERATOR:
        schema = strict(["apiVersion", "kind", "metadata", "spec"], apiVersion={"const": "monitoring.coreos.com/v1"}, kind=TEXT, metadata=META, spec=OPERATOR[kind])
        yield from (error.message for error in jsonschema.Draft202012Validator(schema).iter_errors(document))
        return
    try:
        kubernetes_validate.validate(document, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        yield f"{'.'.join(map(str, error.path))}: {error.message}"
    pod = pod_of(document)
    if pod:
        yield from unrestricted(pod)
        yield from careless(pod)


def pod_of(document):
    if document["kind"] == "Pod":
        return document["spec"]
    return document.get("spec", {}).get("template", {}).get("spec")


def containers_of(pod):
    return pod.get("initContainers", []) + pod["containers"]


def unrestricted(pod):
    """What the profile `restricted` of the Pod Security Standards refuses."""
    of_pod = pod.get("securityContext", {})
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(key):
            yield f"{key} is set"
    for volume in pod.get("volumes", []):
        if not set(volume) - {"name"} <= {"configMap", "emptyDir", "projected", "secret", "downwardAPI", "persistentVolumeClaim", "csi", "ephemeral"}:
            yield f"volume {volume['name']} is of a kind that is not allowed"
    for container in containers_of(pod):
        own, name = container.get("securityContext", {}), container["name"]
        if own.get("allowPrivilegeEscalation") is not False:
            yield f"{name}: privileges may escalate"
        if own.get("capabilities", {}).get("drop") != ["ALL"] or own["capabilities"].get("add"):
            yield f"{name}: has capabilities"
        if not own.get("runAsNonRoot", of_pod.get("runAsNonRoot")) or own.get("runAsUser", of_pod.get("runAsUser")) == 0:
            yield f"{name}: may be root"
        if own.get("seccompProfile", of_pod.get("seccompProfile", {})).get("type") != "RuntimeDefault":
            yield f"{name}: is not confined by seccomp"
        if own.get("privileged") or any(port.get("hostPort") for port in container.get("ports", [])):
            yield f"{name}: is privileged or has a port of the host"


def careless(pod):
    """What is allowed, and still not good."""
    if pod.get("automountServiceAccountToken") is not False:
        yield "has a token of the service account"
    for container in containers_of(pod):
        resources, name = container.get("resources", {}), container["name"]
        if not {"cpu", "memory"} <= set(resources.get("requests", {})) or "memory" not in resources.get("limits", {}):
            yield f"{name}: asks for no resources or has no limit"
        if not container.get("securityContext", {}).get("readOnlyRootFilesystem"):
            yield f"{name}: may write to its root"
        if container["image"].endswith(":latest") or ":" not in container["image"]:
            yield f"{name}: has no version"


def find(documents, kind, name):
    return next(document for document in documents if document["kind"] == kind and document["metadata"]["name"] == name)


def damaged(documents):
    """The demo with one thing made wrong each time, and what it is: none may pass."""
    def change(what, act, kind="Deployment", name="client"):
        document = copy.deepcopy(find(documents, kind, name))
        act(document)
        return what, document

    sidecar = lambda document: document["spec"]["template"]["spec"]["initContainers"][0]
    app = lambda document: document["spec"]["template"]["spec"]["containers"][0]
    yield change("a key misspelt in a probe", lambda d: sidecar(d)["startupProbe"].update(periodSecond=1))
    yield change("a number for a text", lambda d: d["metadata"]["labels"].update(app=5))
    yield change("an unknown restart policy's key", lambda d: sidecar(d).update(restartpolicy="Always"))
    yield change("capabilities", lambda d: sidecar(d)["securityContext"]["capabilities"].update(add=["NET_ADMIN"]))
    yield change("no seccomp profile", lambda d: d["spec"]["template"]["spec"]["securityContext"].pop("seccompProfile"))
    yield change("root", lambda d: app(d)["securityContext"].update(runAsUser=0))
    yield change("no limit", lambda d: app(d)["resources"].pop("limits"))
    yield change("a key misspelt in a Service", lambda d: d["spec"].update(clusterIp="None"), "Service", "backend")


class Checks:
    def __init__(self):
        self.passed = self.failed = 0

    def check(self, what, problems):
        problems = list(problems)
        self.passed, self.failed = self.passed + (not problems), self.failed + bool(problems)
        print("FAIL " if problems else "ok   ", what)
        for problem in problems:
            print(f"      {problem}")


def rule_object(rules):
    """rules.yml as the operator's object."""
    with open(RULE_OBJECT, encoding="utf-8") as file:
        head = file.read().partition("\nspec:\n")[0]
    body = rules[rules.index("groups:"):]
    return f"{head}\nspec:\n" + "".join(f"  {line}" if line.strip() else line for line in body.splitlines(keepends=True))


def main():
    with open(RULES, encoding="utf-8") as file:
        rules = file.read()
    if sys.argv[1:] == ["write"]:
        text = rule_object(rules)
        with open(RULE_OBJECT, "w", encoding="utf-8") as file:
            file.write(text)
        return
    checks = Checks()
    trees = {tree: rendered(tree) for tree in TREES}
    for tree, versions in TREES.items():
        for version in versions:
            said = [f"{document['kind']} {document['metadata']['name']}: {fault}" for document in trees[tree] for fault in faults(document, version)]
            checks.check(f"{tree} is valid for Kubernetes {version}, restricted where it has pods ({len(trees[tree])} objects)", said)
    for what, document in damaged(trees["k8s"]):
        checks.check(f"the demo with {what} is refused", [] if list(faults(document, "1.34")) else ["it was taken"])
    monitoring = trees["k8s/monitoring"]
    held = find(monitoring, "PrometheusRule", "outrigger")["spec"] == yaml.safe_load(rules)
    checks.check("the operator's rules are rules.yml", [] if held else [f"not so: {sys.argv[0]} write"])
    with open(DASHBOARD, encoding="utf-8") as file:
        same = find(monitoring, "ConfigMap", "outrigger-dashboard")["data"]["outrigger.json"].rstrip("\n") == file.read().rstrip("\n")
    checks.check("the dashboard that is applied is dashboard.json", [] if same else ["not so"])
    checks.check("the PodMonitor finds the client's pod and its port", unseen(find(monitoring, "PodMonitor", "outrigger"), find(trees["k8s"], "Deployment", "client")))
    print(f"manifests: {checks.passed} passed, {checks.failed} failed, 0 skipped")
    sys.exit(bool(checks.failed))


def unseen(monitor, deployment):
    """What of a Deployment's pods a PodMonitor would miss, and where the annotations say something else."""
    spec, template = monitor["spec"], deployment["spec"]["template"]
    if not spec["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items():
        yield "it selects other pods"
    if monitor["metadata"]["namespace"] != deployment["metadata"]["namespace"]:
        yield "it looks in another namespace"
    ports = {port["name"]: port["containerPort"] for container in containers_of(template["spec"]) for port in container.get("ports", [])}
    annotations = template["metadata"]["annotations"]
    for endpoint in spec["podMetricsEndpoints"]:
        if str(ports.get(endpoint["port"])) != annotations["prometheus.io/port"] or endpoint["path"] != annotations["prometheus.io/path"]:
            yield f"{endpoint} is not what the annotations say: {annotations}"


if __name__ == "__main__":
    main()
