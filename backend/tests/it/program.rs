//! The program around the library: its one line, its signals, its exit codes.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Output, Stdio};

use crate::wire::{ask, patiently};

fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_backend"));
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Ends the program however the test ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn run_to_end(arguments: &[&str]) -> Output {
    let mut command = program(arguments);
    let run = tokio::task::spawn_blocking(move || command.output());
    patiently("the program ends", run).await.expect("no panic").expect("the program starts")
}

fn addresses(line: &str) -> (SocketAddr, SocketAddr) {
    let rest = line.trim_end().strip_prefix("backend listening on ").expect("the line of the contract");
    let (data, control) = rest.split_once(", control on ").expect("both addresses");
    (data.parse().expect("an address"), control.parse().expect("an address"))
}

#[tokio::test]
async fn it_says_where_it_listens_and_ends_with_zero_on_either_signal() {
    for signal in ["-TERM", "-INT"] {
        let mut command = program(&["--listen", "127.0.0.1:0", "--control", "127.0.0.1:0", "--error-share", "1"]);
        let mut running = Running(command.env("BACKEND_ERROR_STATUSES", "418").spawn().expect("the program starts"));
        let mut line = String::new();
        let stdout = running.0.stdout.take().expect("stdout is piped");
        BufReader::new(stdout).read_line(&mut line).expect("a line");
        let (data, control) = addresses(&line);
        assert_eq!(ask(data, "GET /", "").await.expect("a response").status, 418);
        assert_eq!(ask(control, "GET /livez", "").await.expect("a response").status, 200);

        let id = running.0.id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().expect("kill is there").success());
        let ended = tokio::task::spawn_blocking(move || running.0.wait());
        let status = patiently("the program ends", ended).await.expect("no panic").expect("a status");
        assert_eq!(status.code(), Some(0), "{signal}");
    }
}

#[tokio::test]
async fn a_taken_port_is_named_and_ends_with_one() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("an address").to_string();
    let output = run_to_end(&["--listen", &address, "--control", "127.0.0.1:0"]).await;
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(message.starts_with(&format!("backend: cannot listen on {address}: ")), "{message}");
    assert!(output.stdout.is_empty());
}

#[tokio::test]
async fn wrong_faults_end_with_two() {
    let output = run_to_end(&["--faults", r#"{"errors":{"share":3}}"#]).await;
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "backend: errors.share: 3 is not between 0 and 1\n");
}
