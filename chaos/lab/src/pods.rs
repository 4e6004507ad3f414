//! Pods of podman in place of processes: the same images as in a cluster, each pod with a network of its own.
//!
//! An attached `podman run` starts each program, so that its output is read like that of any child. Signals go to the container,
//! because `podman run` could not pass on SIGKILL. A pod is removed with the last value that owns it, and the network with [`Pods`].

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use rustix::process::Signal;

/// The images are those of this version.
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// What a container may do, as in the manifests.
const CONFINED: [&str; 6] = ["--read-only", "--cap-drop", "all", "--security-opt", "no-new-privileges", "--rm"];

/// A network for pods.
#[derive(Debug)]
pub struct Pods {
    network: String,
    made: AtomicU32,
}

/// One pod: containers that share a network address.
#[derive(Debug)]
pub struct Pod {
    name: String,
    address: IpAddr,
    containers: AtomicU32,
}

/// A container in its pod.
#[derive(Debug)]
pub struct Container {
    name: String,
    /// Lives as long as one of its containers has an owner.
    pod: Arc<Pod>,
}

impl Pods {
    /// Makes the network.
    ///
    /// # Errors
    /// A sentence: there is no podman, or an image is missing.
    pub fn on_a_network() -> Result<Self, String> {
        for program in ["backend", "client", "outrigger"] {
            podman(&["image", "exists", &image(program)])
                .map_err(|error| format!("{error}: `make images` makes {}", image(program)))?;
        }
        let network = format!("outrigger-lab-{}", std::process::id());
        podman(&["network", "create", &network])?;
        Ok(Self { network, made: AtomicU32::new(1) })
    }

    /// A pod that is ready for containers.
    ///
    /// # Errors
    /// A sentence of podman's.
    pub fn pod(&self) -> Result<Arc<Pod>, String> {
        let name = format!("{}-{}", self.network, self.made.fetch_add(1, Relaxed));
        podman(&["pod", "create", "--name", &name, "--network", &self.network])?;
        // From here on it has an owner.
        let mut pod = Pod { name, address: IpAddr::from([0, 0, 0, 0]), containers: AtomicU32::new(1) };
        podman(&["pod", "start", &pod.name])?;
        let infra = podman(&["pod", "inspect", &pod.name, "--format", "{{.InfraContainerID}}"])?;
        let address =
            podman(&["inspect", &infra, "--format", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"])?;
        pod.address =
            address.parse().map_err(|error| format!("the address of {}: {error} in {address:?}", pod.name))?;
        Ok(Arc::new(pod))
    }
}

impl Pod {
    /// What other pods and this machine reach it by.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// A program in this pod, with files and folders of this machine under the same names, ready to be started.
    pub fn command(self: &Arc<Self>, program: &str, arguments: &[OsString], mounts: &[&Path]) -> (Command, Container) {
        let name = format!("{}-{program}-{}", self.name, self.containers.fetch_add(1, Relaxed));
        let mut command = Command::new("podman");
        command.args(["run", "--pod", &self.name, "--name", &name]).args(CONFINED);
        for mount in mounts {
            command.arg("--volume").arg([mount.as_os_str(), mount.as_os_str()].join(":".as_ref()));
        }
        if program == "client" {
            // It writes its report into a folder of ours.
            command.args(["--user", "0:0"]);
        }
        command.arg(image(program)).args(arguments);
        (command, Container { name, pod: Arc::clone(self) })
    }
}

impl Container {
    /// The pod that it shares with others.
    #[must_use]
    pub fn pod(&self) -> &Arc<Pod> {
        &self.pod
    }

    /// Sends a signal; to one that has ended, nothing.
    pub(crate) fn signal(&self, signal: Signal) {
        // It fails if the container has ended, or is about to be.
        let _ = podman(&["kill", "--signal", &signal.as_raw().to_string(), &self.name]);
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        if let Err(error) = podman(&["pod", "rm", "--force", "--time", "0", &self.name]) {
            eprintln!("lab: a pod is left behind: {error}");
        }
    }
}

impl Drop for Pods {
    fn drop(&mut self) {
        if let Err(error) = podman(&["network", "rm", "--force", &self.network]) {
            eprintln!("lab: a network is left behind: {error}");
        }
    }
}

fn image(program: &str) -> String {
    match program {
        "outrigger" => format!("outrigger:{VERSION}"),
        other => format!("outrigger-{other}:{VERSION}"),
    }
}

/// Runs podman and returns its output, without the line's end.
fn podman(arguments: &[&str]) -> Result<String, String> {
    let output = Command::new("podman").args(arguments).output().map_err(|error| format!("podman: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned());
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    Err(format!("podman {}: {} {}", arguments.join(" "), output.status, errors.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_those_that_the_manifests_name() {
        let client = include_str!("../../../k8s/base/client-deployment.yaml");
        let backend = include_str!("../../../k8s/base/backend-deployment.yaml");
        for (manifest, program) in [(client, "client"), (client, "outrigger"), (backend, "backend")] {
            let line = format!("image: {}", image(program));
            assert!(manifest.lines().any(|found| found.trim() == line), "{line}");
        }
    }
}
