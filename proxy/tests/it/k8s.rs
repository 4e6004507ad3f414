//! Compares the manifests of `k8s/` and the Dockerfiles with the code: ports, paths, names and times must agree.
//!
//! It needs neither kubectl nor podman. `ci/manifests.sh` checks the manifests against the schemas of Kubernetes, and `ci/pods.sh` runs them.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use outrigger::config::Config;
use outrigger::memory::Budget;
use yaml_rust2::{Yaml, YamlLoader};

const ADMIN: &str = concat!(include_str!("../../src/admin.rs"), include_str!("../../src/admin/gate.rs"));
const BACKEND: &str = "k8s/base/backend-deployment.yaml";
const CLIENT: &str = "k8s/base/client-deployment.yaml";
const JOB: &str = "k8s/examples/job/job.yaml";
const JOB_FOLDERS: [&str; 2] = ["k8s/examples/job", "k8s/examples/job-pre-1.29"];
const WORKLOADS: [(&str, &str); 3] = [(BACKEND, "Deployment"), (CLIENT, "Deployment"), (JOB, "Job")];
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

fn documents(text: &str) -> Vec<Yaml> {
    YamlLoader::load_from_str(text).unwrap_or_else(|error| panic!("{error} in\n{text}"))
}

/// Reads a text that is one document.
fn yaml(text: &str) -> Yaml {
    let [document] = <[Yaml; 1]>::try_from(documents(text)).expect("one document");
    document
}

fn file(path: &str) -> Yaml {
    yaml(&read(path))
}

/// The document of a manifest that has this kind.
fn document(path: &str, kind: &str) -> Yaml {
    let found = documents(&read(path)).into_iter().find(|document| document["kind"].as_str() == Some(kind));
    found.unwrap_or_else(|| panic!("{path} has no {kind}"))
}

fn text(yaml: &Yaml) -> &str {
    yaml.as_str().unwrap_or_else(|| panic!("{yaml:?} is no text"))
}

fn number<N: TryFrom<i64>>(yaml: &Yaml) -> N {
    yaml.as_i64().and_then(|number| number.try_into().ok()).unwrap_or_else(|| panic!("{yaml:?} is no such number"))
}

fn list(yaml: &Yaml) -> &[Yaml] {
    yaml.as_vec().unwrap_or_else(|| panic!("{yaml:?} is no list"))
}

/// The item of a list that has this name.
fn named<'y>(yaml: &'y Yaml, name: &str) -> &'y Yaml {
    let found = list(yaml).iter().find(|item| item["name"].as_str() == Some(name));
    found.unwrap_or_else(|| panic!("no {name} in {yaml:?}"))
}

/// The pod that a Deployment or a Job makes.
fn pod(workload: &Yaml) -> &Yaml {
    &workload["spec"]["template"]["spec"]
}

/// All containers of a pod, in the order in which they start.
fn containers(pod: &Yaml) -> Vec<&Yaml> {
    let init = pod["initContainers"].as_vec().into_iter().flatten();
    init.chain(list(&pod["containers"])).collect()
}

/// The ports that the rules of a NetworkPolicy open.
fn ports(rules: &Yaml) -> Vec<u16> {
    list(rules).iter().flat_map(|rule| list(&rule["ports"])).map(|port| number(&port["port"])).collect()
}

/// How long a pod may take to end.
fn grace(workload: &Yaml) -> Duration {
    Duration::from_secs(number(&pod(workload)["terminationGracePeriodSeconds"]))
}

fn sidecar(workload: &Yaml) -> &Yaml {
    named(&pod(workload)["initContainers"], "outrigger")
}

#[test]
fn the_app_is_served_on_loopback_and_the_kubelet_on_the_pods_address() {
    let listen = config().listen;
    assert!(listen.app.ip().is_loopback(), "{}", listen.app);
    assert!(listen.admin.ip().is_unspecified(), "{}", listen.admin);
    let deployment = document(CLIENT, "Deployment");
    let args = list(&named(&pod(&deployment)["containers"], "client")["args"]);
    assert!(args.contains(&Yaml::String(format!("http://{}/", listen.app))), "{args:?}");
}

#[test]
fn probes_and_scrapes_ask_the_admin_port_for_paths_that_it_has() {
    let (deployment, admin) = (document(CLIENT, "Deployment"), config().listen.admin.port());
    let (sidecar, annotations) = (sidecar(&deployment), &deployment["spec"]["template"]["metadata"]["annotations"]);
    assert_eq!(number::<u16>(&named(&sidecar["ports"], "admin")["containerPort"]), admin);
    assert_eq!(text(&annotations["prometheus.io/port"]), admin.to_string());
    let mut paths = vec![text(&annotations["prometheus.io/path"])];
    for (probe, path) in [("startupProbe", "/readyz"), ("readinessProbe", "/readyz"), ("livenessProbe", "/livez")] {
        let probe = &sidecar[probe]["httpGet"];
        assert_eq!((text(&probe["path"]), text(&probe["port"])), (path, "admin"));
        paths.push(path);
    }
    for path in paths {
        assert!(ADMIN.contains(&format!("\"{path}\" =>")), "admin.rs has no {path}");
    }
    assert_eq!(ports(&document(CLIENT, "NetworkPolicy")["spec"]["ingress"]), [admin]);
}

#[test]
fn the_endpoint_is_the_service_and_the_service_is_the_backend() {
    let config = config();
    let [upstream] = &config.upstreams[..] else { panic!("one upstream is enough for the demo") };
    let [endpoint] = &upstream.endpoints[..] else { panic!("one name is enough for a Service") };
    let (service, deployment) = (document(BACKEND, "Service"), document(BACKEND, "Deployment"));
    assert_eq!(text(&service["metadata"]["name"]), endpoint.host);
    let [service_port] = list(&service["spec"]["ports"]) else { panic!("one port") };
    assert_eq!(number::<u16>(&service_port["port"]), endpoint.port);
    // A headless Service does not translate ports.
    assert_eq!(text(&service["spec"]["clusterIP"]), "None");
    let backend = named(&pod(&deployment)["containers"], "backend");
    let target = named(&backend["ports"], text(&service_port["targetPort"]));
    assert_eq!(number::<u16>(&target["containerPort"]), endpoint.port);
    let labels = &deployment["spec"]["template"]["metadata"]["labels"];
    assert_eq!(text(&service["spec"]["selector"]["app"]), text(&labels["app"]));

    let address =
        |variable| text(&named(&backend["env"], variable)["value"]).parse::<SocketAddr>().expect("an address");
    let (listen, control) = (address("BACKEND_LISTEN"), address("BACKEND_CONTROL"));
    assert!(listen.ip().is_unspecified() && listen.port() == endpoint.port, "{listen}");
    assert!(control.ip().is_loopback(), "any client that reaches {control} can break the service");

    assert_eq!(ports(&document(CLIENT, "NetworkPolicy")["spec"]["egress"]), [endpoint.port, 53, 53]);
    assert_eq!(ports(&document(BACKEND, "NetworkPolicy")["spec"]["ingress"]), [endpoint.port]);
}

#[test]
fn the_drain_ends_before_the_pod_is_killed() {
    assert!(grace(&document(CLIENT, "Deployment")) > config().drain.timeout);
}

#[test]
fn the_page_of_limits_divides_the_memory_that_the_manifest_gives() {
    let deployment = document(CLIENT, "Deployment");
    let given = text(&sidecar(&deployment)["resources"]["limits"]["memory"]);
    assert_eq!(given, "128Mi");
    let Budget { heap, connections, .. } = Budget::new(128 << 20, 0);
    let page = read("docs/limits.md");
    for part in [
        "Of 128 MiB that is".to_owned(),
        format!("that is {} MiB", heap >> 20),
        format!("that is {} {} connections", connections / 1_000, connections % 1_000),
    ] {
        assert!(page.contains(&part), "{part}");
    }
}

#[test]
fn the_sidecar_is_a_native_one() {
    let deployment = document(CLIENT, "Deployment");
    assert_eq!(text(&sidecar(&deployment)["restartPolicy"]), "Always");
    let [app] = list(&pod(&deployment)["containers"]) else { panic!("the app alone") };
    assert_eq!(text(&app["name"]), "client");
    assert!(app["restartPolicy"].is_badvalue());
}

#[test]
fn the_configuration_is_mounted_as_the_folder_where_the_image_looks_for_it() {
    let image = read("proxy/Dockerfile");
    let path = image.lines().find_map(|line| line.strip_prefix("ENV OUTRIGGER_CONFIG=")).expect("the image says where");
    let (folder, file) = path.rsplit_once('/').expect("a path");
    let deployment = document(CLIENT, "Deployment");
    let [mount] = list(&sidecar(&deployment)["volumeMounts"]) else { panic!("nothing else is mounted") };
    assert_eq!(text(&mount["mountPath"]), folder);
    assert!(mount["subPath"].is_badvalue(), "a file mounted by subPath never changes");
    let volume = named(&pod(&deployment)["volumes"], text(&mount["name"]));
    let kustomization = self::file("k8s/base/kustomization.yaml");
    let generator = named(&kustomization["configMapGenerator"], text(&volume["configMap"]["name"]));
    assert_eq!(list(&generator["files"]), [Yaml::String(file.to_owned())]);
    assert_eq!(generator["options"]["disableNameSuffixHash"], Yaml::Boolean(true));
}

#[test]
fn a_jobs_sidecar_has_the_policies_of_the_demo_and_ends_with_its_work() {
    let deployed = config();
    assert!(!deployed.drain.quit, "a Deployment runs for ever, so no app has to end its sidecar");
    for (folder, quit) in JOB_FOLDERS.into_iter().zip([false, true]) {
        let mut config = config_of(folder);
        assert_eq!((config.drain.silence, config.drain.quit), (Duration::ZERO, quit), "{folder}");
        config.drain = deployed.drain;
        assert_eq!(config, deployed, "{folder}: nothing else differs");
    }
    let (job, admin) = (document(JOB, "Job"), deployed.listen.admin.port());
    assert!(grace(&job) > deployed.drain.timeout);
    assert_eq!(text(&sidecar(&job)["restartPolicy"]), "Always");
    assert_eq!(number::<u16>(&named(&sidecar(&job)["ports"], "admin")["containerPort"]), admin);
    let quit = format!("http://127.0.0.1:{admin}/quitquitquit");
    assert_eq!(added_before_1_29("/args/-"), [yaml("--then-post"), Yaml::String(quit)]);
    assert_eq!(added_before_1_29("/lifecycle"), [yaml("{postStart: {exec: {command: [/outrigger, ready]}}}")]);
    assert!(ADMIN.contains("\"/quitquitquit\""));
    let (into_backend, of_client) = (document(BACKEND, "NetworkPolicy"), document(CLIENT, "NetworkPolicy"));
    for selector in [&into_backend["spec"]["ingress"][0]["from"][0]["podSelector"], &of_client["spec"]["podSelector"]] {
        let wanted = yaml("{matchExpressions: [{key: app, operator: In, values: [client, once]}]}");
        assert_eq!(*selector, wanted, "the Job's pod is let through");
    }
    for labels in [&job["metadata"]["labels"], &job["spec"]["template"]["metadata"]["labels"]] {
        assert_eq!(text(&labels["app"]), "once");
    }
}

/// What the patch for clusters without native sidecars adds to the Job at places that end in this.
fn added_before_1_29(place: &str) -> Vec<Yaml> {
    let kustomization = file("k8s/examples/job-pre-1.29/kustomization.yaml");
    let [patch] = list(&kustomization["patches"]) else { panic!("one patch") };
    let patch = yaml(text(&patch["patch"]));
    let added = list(&patch).iter().filter(|step| text(&step["op"]) == "add" && text(&step["path"]).ends_with(place));
    added.map(|step| step["value"].clone()).collect()
}

#[test]
fn scripts_know_how_many_backends_there_are() {
    let replicas: u32 = number(&document(BACKEND, "Deployment")["spec"]["replicas"]);
    assert!(read("chaos/kubectl.sh").contains(&format!("\nREPLICAS={replicas}\n")));
    let numbers: Vec<String> = (1..=replicas).map(|number| number.to_string()).collect();
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
    let metadata = &file("k8s/base/namespace.yaml")["metadata"];
    assert_eq!(text(&metadata["labels"]["pod-security.kubernetes.io/enforce"]), "restricted");
    assert_eq!(metadata["name"], file("k8s/base/kustomization.yaml")["namespace"]);
    let confined = yaml("{allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}");
    for (path, kind) in WORKLOADS {
        let workload = document(path, kind);
        let pod = pod(&workload);
        for container in containers(pod) {
            assert_eq!(container["securityContext"], confined, "{path}: {:?}", container["name"]);
            for bound in ["requests", "limits"] {
                text(&container["resources"][bound]["memory"]);
            }
        }
        let security = &pod["securityContext"];
        assert_eq!(security["runAsNonRoot"], Yaml::Boolean(true), "{path}");
        assert_eq!(text(&security["seccompProfile"]["type"]), "RuntimeDefault", "{path}");
        assert_eq!(pod["automountServiceAccountToken"], Yaml::Boolean(false), "{path}");
        let user = format!("USER {0}:{0}", number::<u32>(&security["runAsUser"]));
        assert!(DOCKERFILES.iter().all(|path| read(path).lines().any(|line| line == user)), "{path}: {user}");
    }
}

#[test]
fn images_have_the_version_of_the_workspace_and_are_built_by_its_compiler() {
    let version = env!("CARGO_PKG_VERSION");
    let workloads = WORKLOADS.map(|(path, kind)| document(path, kind));
    let images: Vec<&str> =
        workloads.iter().flat_map(|workload| containers(pod(workload))).map(|c| text(&c["image"])).collect();
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
