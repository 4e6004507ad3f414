//! A name whose address changes while the proxy runs.
//!
//! The proxy gets an `/etc/hosts` of its own in a mount namespace of its own, so that the system's is not touched.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use lab::process::Signal;
use lab::programs::Programs;

use crate::stage::{Folder, PATIENCE, cannot_run, config, get_via, programs, wait_until};

/// How a namespace can be had here: by root, or by a user who may have a user namespace.
fn unshare() -> Option<&'static [&'static str]> {
    let ways: [&[&str]; 2] = [&["--mount"], &["--mount", "--map-root-user"]];
    ways.into_iter().find(|way| {
        let script = "mount --bind /etc/hostname /etc/hosts";
        let tried = Command::new("unshare").args(*way).args(["sh", "-c", script]).stderr(Stdio::null()).status();
        tried.is_ok_and(|status| status.success())
    })
}

/// A proxy that sees `hosts` as its `/etc/hosts`. Each program replaces the one before, so the child is the proxy itself.
fn proxy_with_hosts(programs: &Programs, way: &[&str], hosts: &Path, config: &Path) -> Command {
    let proxy = programs.command("outrigger", [OsStr::new("--config"), config.as_os_str()]);
    let script = "mount --bind \"$1\" /etc/hosts && shift && exec \"$@\"";
    let mut arguments: Vec<OsString> = way.iter().map(OsString::from).collect();
    arguments.extend(["sh", "-c", script, "sh"].map(OsString::from));
    arguments.extend([hosts.as_os_str().to_owned(), proxy.get_program().to_owned()]);
    arguments.extend(proxy.get_args().map(OsStr::to_owned));
    let mut command = Command::new("unshare");
    command.args(arguments);
    command
}

#[test]
fn an_upstream_that_comes_back_under_another_address_is_found() {
    let Some(way) = unshare() else {
        return cannot_run("a name with a new address", "no mount namespace can be had here");
    };
    let (programs, folder) = (programs(), Folder::new());
    let mut first = programs.backend(&[]).unwrap_or_else(|error| panic!("{error}"));
    let hosts = folder.write("hosts", "127.0.0.1 moving.test\n");
    let policies = "resolve_interval = \"500ms\"\n";
    let path = folder.write("config.toml", &config(&format!("\"moving.test:{}\"", first.data.port()), policies));
    let command = proxy_with_hosts(&programs, way, &hosts, &path);
    let proxy = programs.proxy_by(command).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(get_via(&proxy).status, 200);

    first.process.signal(Signal::KILL);
    first.process.wait(PATIENCE).expect("it is dead");
    assert_ne!(get_via(&proxy).status, 200);
    let elsewhere = format!("127.0.0.2:{}", first.data.port()).parse().expect("an address");
    let second = programs.backend_at(elsewhere, &[]).unwrap_or_else(|error| panic!("{error}"));
    // In place: the mount is of this very file.
    fs::write(&hosts, "127.0.0.2 moving.test\n").expect("writable");
    wait_until("success at the new address", || get_via(&proxy).status == 200);
    assert!(second.received().expect("the control port answers").requests > 0);
}
