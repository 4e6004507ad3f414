"""As much of a Kubernetes API as kubectl needs for chaos/kubectl.sh, before the pods that chaos/podman.sh up has played.

usage: cluster.py ADDRESS KUBECONFIG    serves on any port of that address, writes that file, and goes on until it is told to end

It plays the Deployment's controller: a backend that is deleted comes back after a moment, under another address; a scale is carried out; a rollout restarts one pod
after the other. Nothing here is a cluster: what it proves is that the script says the right things to one.
"""

import http.server
import json
import re
import subprocess
import sys
import threading
import time
import urllib.parse

NAMESPACE = "outrigger-demo"
DEPLOYMENT = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments"
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
# From a pod's deletion to its successor's start.
ABSENCE_S = 2
START_TRIES = 10
# One call of podman at a time: a list of pods beside a stop of one was seen to wait for it for ever, with 4.3.
one_call = threading.Lock()
state = {"replicas": 3, "generation": 1, "restarting": False}


def podman(*arguments):
    with one_call:
        return subprocess.run(["podman", *arguments], check=True, capture_output=True, text=True).stdout


def backends(*filters):
    return sorted(podman("pod", "ps", "--filter", "label=app=backend", *filters, "--format", "{{.Name}}").split())


def resource(name, kind, verbs):
    return {"name": name, "singularName": "", "namespaced": True, "kind": kind, "verbs": verbs}


def pod(name):
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"app": "backend"}, "uid": name}, "status": {"phase": "Running"}}


def deployment(name):
    count = state["replicas"]
    updated, running = 0 if state["restarting"] else count, len(backends("--filter", "status=running"))
    status = {"observedGeneration": state["generation"], "replicas": count, "updatedReplicas": updated, "readyReplicas": running, "availableReplicas": running}
    spec = {"replicas": count, "selector": {"matchLabels": {"app": name}}, "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": name, "image": name}]}}}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": NAMESPACE, "uid": name, "generation": state["generation"], "resourceVersion": "1"}, "spec": spec, "status": status}


def scale():
    return {"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "backend", "namespace": NAMESPACE, "resourceVersion": "1"}, "spec": {"replicas": state["replicas"]}, "status": {"replicas": state["replicas"]}}


def listed(kind, version, items):
    return {"apiVersion": version, "kind": f"{kind}List", "metadata": {"resourceVersion": "1"}, "items": items}


def start(name):
    """Until it runs: a pod that is started while podman still cleans up behind its stop was seen to stay half up."""
    for _ in range(START_TRIES):
        podman("pod", "start", name)
        time.sleep(1)
        if name in backends("--filter", "status=running"):
            return
    sys.stderr.write(f"{name} does not start\n")


def replace(name):
    podman("pod", "kill", name)
    threading.Timer(ABSENCE_S, start, (name,)).start()


def rollout():
    for name in backends():
        podman("pod", "stop", "-t", "10", name)
        start(name)
    state["restarting"] = False


DISCOVERY = {
    "/version": {"major": "1", "minor": "32", "gitVersion": "v1.32.0"},
    "/api": {"kind": "APIVersions", "versions": ["v1"]},
    "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": [{"name": "apps", "versions": [{"groupVersion": "apps/v1", "version": "v1"}], "preferredVersion": {"groupVersion": "apps/v1", "version": "v1"}}]},
    "/api/v1": {"kind": "APIResourceList", "groupVersion": "v1", "resources": [resource("pods", "Pod", ["get", "list", "delete"])]},
    "/apis/apps/v1": {"kind": "APIResourceList", "groupVersion": "apps/v1", "resources": [resource("deployments", "Deployment", ["get", "list", "watch", "patch"]), {**resource("deployments/scale", "Scale", ["get", "update", "patch"]), "group": "autoscaling", "version": "v1"}]},
}


class Api(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, form, *arguments):
        sys.stderr.write(f"{self.command} {self.path}\n")

    def reply(self, value, status=200):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def missing(self):
        self.reply({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404, "message": f"{self.path} is not played"}, 404)

    def body(self):
        return json.loads(self.rfile.read(int(self.headers.get("content-length", 0))) or b"{}")

    def do_GET(self):
        path, _, query = self.path.partition("?")
        query = dict(urllib.parse.parse_qsl(query))
        if path in DISCOVERY:
            self.reply(DISCOVERY[path])
        elif path == PODS:
            selected = query.get("labelSelector") == "app=backend"
            self.reply(listed("Pod", "v1", [pod(name) for name in backends()] if selected else []))
        elif path.startswith(PODS + "/"):
            self.reply(pod(path.rpartition("/")[2]))
        elif path == DEPLOYMENT and "watch" in query:
            self.watch()
        elif path == DEPLOYMENT:
            self.reply(listed("Deployment", "apps/v1", [deployment(query["fieldSelector"].partition("=")[2])]))
        elif path == f"{DEPLOYMENT}/backend/scale":
            self.reply(scale())
        elif re.fullmatch(re.escape(DEPLOYMENT) + "/[a-z]+", path):
            self.reply(deployment(path.rpartition("/")[2]))
        else:
            self.missing()

    def watch(self):
        """One event as soon as all are back; kubectl looks no further."""
        while state["restarting"] or len(backends("--filter", "status=running")) < state["replicas"]:
            time.sleep(0.5)
        event = json.dumps({"type": "MODIFIED", "object": deployment("backend")}).encode() + b"\n"
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(event)))
        self.end_headers()
        self.wfile.write(event)

    def do_DELETE(self):
        self.body()
        name = self.path.partition("?")[0].rpartition("/")[2]
        if not self.path.startswith(PODS + "/") or name not in backends():
            return self.missing()
        replace(name)
        return self.reply(pod(name))

    def do_PUT(self):
        self.change(self.body())

    def do_PATCH(self):
        self.change(self.body())

    def change(self, wanted):
        path = self.path.partition("?")[0]
        state["generation"] += 1
        if path == f"{DEPLOYMENT}/backend/scale":
            state["replicas"] = wanted["spec"]["replicas"]
            for name in backends():
                if state["replicas"]:
                    start(name)
                else:
                    podman("pod", "kill", name)
            self.reply(scale())
        elif path == f"{DEPLOYMENT}/backend":
            state["restarting"] = True
            threading.Thread(target=rollout).start()
            self.reply(deployment("backend"))
        else:
            self.missing()


def main():
    listen, kubeconfig = sys.argv[1:]
    server = http.server.ThreadingHTTPServer((listen, 0), Api)
    address = f"http://{listen}:{server.server_address[1]}"
    named = {"clusters": [{"name": "podman", "cluster": {"server": address}}], "contexts": [{"name": "podman", "context": {"cluster": "podman", "user": "podman"}}], "users": [{"name": "podman", "user": {}}]}
    with open(kubeconfig, "w", encoding="utf-8") as file:
        json.dump({"apiVersion": "v1", "kind": "Config", "current-context": "podman", **named}, file)
    server.serve_forever()


if __name__ == "__main__":
    main()
