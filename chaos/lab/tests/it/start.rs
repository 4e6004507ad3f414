//! What keeps the proxy from starting, and how it says so.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use lab::process::Process;
use lab::programs::Programs;

use crate::stage::{Folder, WAIT_MAX, config, programs};

/// Exit code and stderr of a proxy with this configuration.
fn start_with(text: &str) -> (Option<i32>, String) {
    let (programs, folder) = (programs(), Folder::new());
    let path = folder.write("config.toml", text);
    end_of(&programs, &path)
}

/// Exit code and stderr of a proxy with this file, which it must refuse.
fn end_of(programs: &Programs, path: &Path) -> (Option<i32>, String) {
    let command = programs.command("outrigger", ["--config", &path.to_string_lossy()]);
    let mut process = Process::spawn("outrigger", command).unwrap_or_else(|error| panic!("{error}"));
    let status = process.wait(WAIT_MAX).unwrap_or_else(|error| panic!("{error}"));
    (status.code(), process.stderr().join("\n"))
}

#[test]
fn all_faults_of_a_configuration_are_reported_at_once_with_exit_code_two() {
    let faulty = config("\"127.0.0.1:5001\"", "[upstreams.backend.retry]\nmax_attempts = 99\nattemps = 3\n")
        .replace("\"300ms\"", "\"300\"");
    let (code, stderr) = start_with(&faulty);
    assert_eq!(code, Some(2), "{stderr}");
    for fault in ["drain.silence", "upstreams.backend.retry.max_attempts: 99", "upstreams.backend.retry.attemps"] {
        assert!(stderr.contains(fault), "{fault} is missing: {stderr}");
    }
}

#[test]
fn a_port_in_use_is_named_with_exit_code_one() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("its address").to_string();
    let text = config("\"127.0.0.1:5001\"", "").replacen("127.0.0.1:0", &address, 1);
    let (code, stderr) = start_with(&text);
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.contains(&address), "{stderr}");
}

#[test]
fn what_is_no_regular_file_is_refused_at_once_by_the_start_and_by_check() {
    let (programs, folder) = (programs(), Folder::new());
    let pipe = folder.file("pipe.toml");
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo").success());
    for path in [&*pipe, Path::new("/dev/zero")] {
        let (code, stderr) = end_of(&programs, path);
        assert!(code == Some(2) && stderr.contains("a pipe or a device is not a regular file"), "{code:?}: {stderr}");
        let command = programs.command("outrigger", ["check", &path.to_string_lossy()]);
        let mut process = Process::spawn("outrigger", command).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(process.wait(WAIT_MAX).unwrap_or_else(|error| panic!("{error}")).code(), Some(2));
    }
}
