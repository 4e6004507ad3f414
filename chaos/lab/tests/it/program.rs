//! The lab itself, as a program.

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;

use lab::process::{Process, Signal};
use lab::results::Results;

use crate::stage::{Folder, WAIT_MAX, programs, wait_until};

fn lab(folder: &Path, arguments: &[&str]) -> Process {
    let _they_are_there = programs();
    let mut command = Command::new(env!("CARGO_BIN_EXE_lab"));
    command.args(["--out", &folder.to_string_lossy()]).args(arguments);
    Process::spawn("lab", command).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn a_short_run_leaves_results_report_and_raw_files() {
    let folder = Folder::new();
    let out = folder.file("lab");
    let mut run = lab(&out, &["--rate", "50", "--seconds", "1", "--only", "a,b_post"]);
    let status = run.wait(WAIT_MAX).unwrap_or_else(|error| panic!("{error}"));
    assert!(status.success(), "{status}{}", run.tail());
    let results = Results::read(&out.join("results.json")).expect("results");
    assert_eq!(results.parts["a"].requests, 50);
    assert_eq!(results.parts["b_post"].retries, 0);
    assert!(results.expectations.iter().any(|claim| claim.name == "b_post.once" && claim.holds));
    for file in ["report.html", "a.json", "a.csv", "b_post.toml", "b_post.proxy.log"] {
        assert!(out.join(file).is_file(), "{file} is missing");
    }
}

#[test]
fn an_interrupted_lab_leaves_no_program_behind() {
    let folder = Folder::new();
    let config = folder.file("b.toml");
    let mut run = lab(&folder.file(""), &["--rate", "50", "--seconds", "60", "--only", "b"]);
    let mut backend = None;
    wait_until("the backend's address", || {
        let text = std::fs::read_to_string(&config).unwrap_or_default();
        let address = text.split("endpoints = [\"").nth(1).and_then(|rest| rest.split('"').next());
        backend = address.and_then(|address| address.parse::<SocketAddr>().ok());
        backend.is_some()
    });
    let backend = backend.expect("just seen");
    assert!(TcpStream::connect(backend).is_ok());
    run.signal(Signal::INT);
    assert_eq!(run.wait(WAIT_MAX).unwrap_or_else(|error| panic!("{error}")).code(), Some(130));
    assert!(TcpStream::connect(backend).is_err(), "the backend goes on");
}
