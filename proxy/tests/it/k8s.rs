//! The manifests of `k8s/` and the Dockerfiles against the code: ports, paths, names and times that must agree.
//!
//! Reads them as lines, by their indentation; needs neither kubectl nor podman. Whether Kubernetes' schemas take them is asked by `ci/manifests.sh`;
//! `ci/pods.sh` plays them for real.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use outrigger::config::Config;

const ADMIN: &str = include_str!("../../src/admin.rs");
const BACKEND: &str = "k8s/base/backend-deployment.yaml";
const CLIENT: &str = "k8s/base/client-deployment.yaml";
const JOB: &str = "k8s/examples/job/job.yaml";
const JOB_FOLDERS: [&str; 2] = ["k8s/examples/job", "k8s/examples/job-pre-1.29"];
const DOCKERFILES: [&str; 3] = ["proxy/Dockerfile", "backend/Dockerfile", "client/Dockerfile"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace").to_owned()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn config() -> Config {
    config_of("k8s/base")
}

fn config_of(folder: &str) -> Config {
    Config::load(&root().join(folder).join("config.toml")).unwrap_or_else(|faults| panic!("{faults}"))
}

/// The document of a manifest that has this kind.
fn document(path: &str, kind: &str) -> String {
    let text = read(path);
    let found = text.split("\n---\n").find(|document| document.lines().any(|line| line == format!("kind: {kind}")));
    found.unwrap_or_else(|| panic!("{path} has no {kind}")).to_owned()
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

/// What stands below the first line that reads `head`; of an item of a list the rest of the item.
fn below(yaml: &str, head: &str) -> String {
    let mut lines = yaml.lines().skip_while(|line| line.trim() != head);
    let first = lines.next().unwrap_or_else(|| panic!("no `{head}` in\n{yaml}"));
    // A list may stand as deep as its key.
    let deeper = |line: &&str| {
        indent(line) > indent(first) || (!head.starts_with('-') && indent(line) == indent(first) && line.contains("- "))
    };
    lines.take_while(deeper).map(|line| format!("{line}\n")).collect()
}

/// The values of all lines `key: value`, without quotes.
fn values(yaml: &str, key: &str) -> Vec<String> {
    let entry = |line: &str| {
        let (found, value) = line.trim().trim_start_matches("- ").split_once(": ")?;
        (found == key).then(|| value.trim_matches('"').to_owned())
    };
    yaml.lines().filter_map(entry).collect()
}

/// The value of the first line `key: value`.
fn value(yaml: &str, key: &str) -> String {
    values(yaml, key).into_iter().next().unwrap_or_else(|| panic!("no `{key}: …` in\n{yaml}"))
}

fn port(yaml: &str, key: &str) -> u16 {
    value(yaml, key).parse().unwrap_or_else(|error| panic!("{key}: {error}"))
}

/// The value of a container's environment variable.
fn variable(yaml: &str, name: &str) -> String {
    value(&below(yaml, &format!("- name: {name}")), "value")
}

fn sidecar() -> String {
    below(&document(CLIENT, "Deployment"), "- name: outrigger")
}

#[test]
fn the_helpers_see_blocks_and_values() {
    let yaml = "a:\n  - name: x\n    b: \"1\"\n  - name: y\n    b: 2\nc: 3\n";
    assert_eq!(values(yaml, "b"), ["1", "2"]);
    assert_eq!(below(yaml, "- name: x"), "    b: \"1\"\n");
    assert_eq!(value(&below(yaml, "- name: y"), "b"), "2");
    assert_eq!(values(&below(yaml, "a:"), "name"), ["x", "y"]);
}

#[test]
fn the_app_is_served_on_loopback_and_the_kubelet_on_the_pods_address() {
    let listen = config().listen;
    assert!(listen.app.ip().is_loopback(), "{}", listen.app);
    assert!(listen.admin.ip().is_unspecified(), "{}", listen.admin);
    let args = value(&below(&document(CLIENT, "Deployment"), "- name: client"), "args");
    assert!(args.contains(&format!("\"http://{}/\"", listen.app)), "{args}");
}

#[test]
fn probes_and_scrapes_ask_the_admin_port_for_what_it_answers() {
    let (deployment, sidecar, admin) = (document(CLIENT, "Deployment"), sidecar(), config().listen.admin.port());
    assert_eq!(value(&below(&sidecar, "ports:"), "name"), "admin");
    assert_eq!(port(&sidecar, "containerPort"), admin);
    assert_eq!(port(&deployment, "prometheus.io/port"), admin);
    let mut paths = vec![value(&deployment, "prometheus.io/path")];
    for (probe, path) in [("startupProbe:", "/readyz"), ("readinessProbe:", "/readyz"), ("livenessProbe:", "/livez")] {
        let probe = below(&sidecar, probe);
        assert_eq!((value(&probe, "path").as_str(), value(&probe, "port").as_str()), (path, "admin"));
        paths.push(path.to_owned());
    }
    for path in paths {
        assert!(ADMIN.contains(&format!("\"{path}\" =>")), "admin.rs answers no {path}");
    }
    let ingress = below(&document(CLIENT, "NetworkPolicy"), "ingress:");
    assert_eq!(port(&ingress, "port"), admin);
}

#[test]
fn the_endpoint_is_the_service_and_the_service_is_the_backend() {
    let config = config();
    let [upstream] = &config.upstreams[..] else { panic!("one upstream is enough for the demo") };
    let [endpoint] = &upstream.endpoints[..] else { panic!("one name is enough for a Service") };
    let (service, deployment) = (document(BACKEND, "Service"), document(BACKEND, "Deployment"));
    assert_eq!((value(&service, "name"), port(&service, "port")), (endpoint.host.clone(), endpoint.port));
    // A headless Service does not translate ports.
    assert_eq!(value(&service, "clusterIP"), "None");
    assert_eq!(port(&deployment, "containerPort"), endpoint.port);
    assert_eq!(value(&below(&deployment, "ports:"), "name"), value(&service, "targetPort"));
    assert_eq!(value(&below(&service, "selector:"), "app"), value(&below(&deployment, "labels:"), "app"));

    let listen: SocketAddr = variable(&deployment, "BACKEND_LISTEN").parse().expect("an address");
    assert!(listen.ip().is_unspecified() && listen.port() == endpoint.port, "{listen}");
    let control: SocketAddr = variable(&deployment, "BACKEND_CONTROL").parse().expect("an address");
    assert!(control.ip().is_loopback(), "whoever reaches {control} can break the service");

    let egress = below(&document(CLIENT, "NetworkPolicy"), "egress:");
    assert_eq!(values(&egress, "port"), [endpoint.port.to_string().as_str(), "53", "53"]);
    assert_eq!(port(&below(&document(BACKEND, "NetworkPolicy"), "ingress:"), "port"), endpoint.port);
}

#[test]
fn the_drain_ends_before_the_pod_is_killed() {
    let grace: u64 = value(&document(CLIENT, "Deployment"), "terminationGracePeriodSeconds").parse().expect("seconds");
    assert!(Duration::from_secs(grace) > config().drain.timeout);
}

#[test]
fn the_sidecar_is_a_native_one() {
    let deployment = document(CLIENT, "Deployment");
    assert_eq!(value(&below(&deployment, "initContainers:"), "name"), "outrigger");
    assert_eq!(value(&sidecar(), "restartPolicy"), "Always");
    let app = below(&deployment, "containers:");
    assert_eq!(value(&app, "name"), "client");
    assert!(values(&app, "restartPolicy").is_empty());
}

#[test]
fn the_configuration_is_mounted_as_the_folder_where_the_image_looks_for_it() {
    let image = read("proxy/Dockerfile");
    let path = image.lines().find_map(|line| line.strip_prefix("ENV OUTRIGGER_CONFIG=")).expect("the image says where");
    let (folder, file) = path.rsplit_once('/').expect("a path");
    let (deployment, sidecar) = (document(CLIENT, "Deployment"), sidecar());
    assert_eq!(value(&sidecar, "mountPath"), folder);
    assert!(values(&sidecar, "subPath").is_empty(), "a file mounted by subPath never changes");
    let generator = below(&read("k8s/base/kustomization.yaml"), "configMapGenerator:");
    assert_eq!(value(&below(&deployment, "configMap:"), "name"), value(&generator, "name"));
    assert!(generator.lines().any(|line| line.trim() == format!("- {file}")), "{generator}");
    assert_eq!(value(&generator, "disableNameSuffixHash"), "true");
}

#[test]
fn a_jobs_sidecar_has_the_policies_of_the_demo_and_ends_with_its_work() {
    let deployed = config();
    assert!(!deployed.drain.quit, "who is served for ever ends nobody");
    for (folder, quit) in JOB_FOLDERS.into_iter().zip([false, true]) {
        let mut config = config_of(folder);
        assert_eq!((config.drain.silence, config.drain.quit), (Duration::ZERO, quit), "{folder}");
        config.drain = deployed.drain;
        assert_eq!(config, deployed, "{folder}: nothing else differs");
    }
    let (job, grace) = (document(JOB, "Job"), deployed.drain.timeout);
    assert!(Duration::from_secs(value(&job, "terminationGracePeriodSeconds").parse().expect("seconds")) > grace);
    let native = below(&job, "- name: outrigger");
    assert_eq!(value(&native, "restartPolicy"), "Always");
    assert_eq!(port(&native, "containerPort"), deployed.listen.admin.port());
    let old = read("k8s/examples/job-pre-1.29/kustomization.yaml");
    assert!(old.contains("value: --then-post}") && old.contains("command: [/outrigger, ready]"), "{old}");
    let quit = format!("http://127.0.0.1:{}/quitquitquit", deployed.listen.admin.port());
    assert!(old.contains(&format!("value: \"{quit}\"")) && ADMIN.contains("\"/quitquitquit\""), "{old}");
    for policy in [BACKEND, CLIENT] {
        let lets_in = "- {key: app, operator: In, values: [client, once]}";
        assert!(document(policy, "NetworkPolicy").contains(lets_in), "{policy} lets the Job's pod through");
    }
    assert_eq!(values(&job, "app"), ["once", "once"]);
}

#[test]
fn scripts_know_how_many_backends_there_are() {
    let replicas = value(&document(BACKEND, "Deployment"), "replicas");
    assert!(read("chaos/kubectl.sh").contains(&format!("\nREPLICAS={replicas}\n")));
    let numbers: Vec<String> =
        (1..=replicas.parse().expect("a number")).map(|number: u32| number.to_string()).collect();
    assert!(read("chaos/processes.sh").contains(&format!("\nBACKENDS=\"{}\"", numbers.join(" "))));
}

#[test]
fn rules_dashboard_and_experiments_ask_only_for_metrics_that_there_are() {
    let documented = read("docs/metrics.md");
    let experiments = fs::read_dir(root().join("chaos")).expect("a folder").flatten().map(|entry| entry.path());
    let experiments: Vec<PathBuf> =
        experiments.filter(|path| path.extension().is_some_and(|end| end == "json")).collect();
    assert!(experiments.len() >= 12, "{experiments:?}");
    let monitoring =
        ["rules.yml", "rules_test.yml", "dashboard.json"].map(|name| root().join("k8s/monitoring").join(name));
    for path in experiments.iter().chain(&monitoring) {
        let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let asked: Vec<&str> = words.filter(|word| word.starts_with("outrigger_")).collect();
        assert!(!asked.is_empty(), "{} asks for nothing", path.display());
        for word in asked {
            let family = word.strip_suffix("_bucket").unwrap_or(word);
            assert!(documented.contains(&format!("| `{family}` |")), "{}: no {family}", path.display());
        }
    }
}

#[test]
fn every_container_fits_the_restricted_profile() {
    let namespace = read("k8s/base/namespace.yaml");
    assert_eq!(value(&namespace, "pod-security.kubernetes.io/enforce"), "restricted");
    assert_eq!(value(&namespace, "name"), value(&read("k8s/base/kustomization.yaml"), "namespace"));
    for (path, kind) in [(BACKEND, "Deployment"), (CLIENT, "Deployment"), (JOB, "Job")] {
        let deployment = document(path, kind);
        let containers = values(&deployment, "image").len();
        assert!(containers > 0, "{path}");
        for (key, wanted) in
            [("allowPrivilegeEscalation", "false"), ("readOnlyRootFilesystem", "true"), ("drop", "[ALL]")]
        {
            assert_eq!(values(&deployment, key), vec![wanted; containers], "{path}: {key}");
        }
        assert_eq!(values(&deployment, "memory").len(), 2 * containers, "{path}: a request and a limit each");
        assert_eq!(values(&deployment, "runAsNonRoot"), ["true"], "{path}");
        assert_eq!(value(&below(&deployment, "seccompProfile:"), "type"), "RuntimeDefault", "{path}");
        assert_eq!(value(&deployment, "automountServiceAccountToken"), "false", "{path}");
        let user = format!("USER {0}:{0}", value(&deployment, "runAsUser"));
        assert!(DOCKERFILES.iter().all(|path| read(path).lines().any(|line| line == user)), "{path}: {user}");
    }
}

#[test]
fn images_have_the_version_of_the_workspace_and_are_built_by_its_compiler() {
    let version = env!("CARGO_PKG_VERSION");
    let workloads = [(BACKEND, "Deployment"), (CLIENT, "Deployment"), (JOB, "Job")];
    let images: Vec<String> =
        workloads.iter().flat_map(|(path, kind)| values(&document(path, kind), "image")).collect();
    let wanted = ["outrigger-backend", "outrigger", "outrigger-client", "outrigger", "outrigger-client"]
        .map(|name| format!("{name}:{version}"));
    assert_eq!(images, wanted);
    for path in DOCKERFILES {
        let text = read(path);
        let base = format!("FROM rust:{}-slim-bookworm AS build", env!("CARGO_PKG_RUST_VERSION"));
        assert!(text.lines().any(|line| line == base), "{path}: {base}");
        assert!(text.contains(&format!("image.version=\"{version}\"")), "{path}: {version}");
        assert!(text.contains("\nFROM scratch\n"), "{path}: nothing but the program");
    }
}
