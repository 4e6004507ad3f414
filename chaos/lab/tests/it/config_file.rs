//! What may happen to a configuration file: whatever it is, the configuration in force stays, the proxy says so, and the next good file is taken.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;

use lab::process::Signal;

use crate::stage::{Site, check_none, wait_until};

type Damage = fn(&Path);

const DAMAGES: [(&str, Damage); 11] = [
    ("half written", |path| {
        let text = fs::read_to_string(path).expect("readable");
        let half = text.find("\"127.0.0.1").expect("an address") + 5;
        fs::write(path, &text[..half]).expect("writable");
    }),
    ("empty", |path| fs::write(path, "").expect("writable")),
    ("no text", |path| fs::write(path, [0xff, 0xfe, 0, 1]).expect("writable")),
    ("four MiB of JSON", |path| fs::write(path, "{\"a\": [1, 2]},\n".repeat(290_000)).expect("writable")),
    ("a line of dots", |path| fs::write(path, ".".repeat(2 << 20)).expect("writable")),
    ("deleted", |_| {}),
    ("a folder", |path| fs::create_dir(path).expect("a folder")),
    ("a link to nowhere", |path| symlink("nowhere", path).expect("a link")),
    ("a link to itself", |path| symlink(path, path).expect("a link")),
    ("a pipe that nobody writes to", |path| {
        assert!(Command::new("mkfifo").arg(path).status().expect("mkfifo").success());
    }),
    ("without an end", |path| symlink("/dev/zero", path).expect("a link")),
];

#[test]
fn a_damaged_file_changes_nothing_and_a_good_one_is_taken_again() {
    let mut site = Site::new(&[], "");
    let path = site.folder.file("config.toml");
    let text = fs::read_to_string(&path).expect("readable");
    let (mut generation, mut rejected) = (1, 0);
    assert_eq!(site.get().status, 200);
    // Connections come and go: each worker keeps some of its own for a while.
    let files = site.proxy.process.open_files();
    let mut damages = DAMAGES.to_vec();
    // Root reads everything; for others a file without rights is one more row.
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).expect("ours");
    if fs::read(&path).is_err() {
        damages
            .push(("unreadable", |path| fs::set_permissions(path, fs::Permissions::from_mode(0o000)).expect("ours")));
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("ours");

    for (name, damage) in damages {
        let is_in_place =
            matches!(name, "half written" | "empty" | "no text" | "four MiB of JSON" | "a line of dots" | "unreadable");
        if !is_in_place {
            fs::remove_file(&path).expect("it is there");
        }
        damage(&path);
        site.proxy.process.signal(Signal::HUP);
        rejected += 1;
        // Both ways lead here: by the signal and, where there is something to see, by the look once a second.
        wait_until(&format!("{name}: a refusal"), || {
            site.count("outrigger_config_reloads_total", &[("result", "rejected")]) >= rejected
        });
        check_none(&site.proxy, "outrigger_config_last_reload_successful", &[]);
        assert_eq!(
            (site.proxy.status().expect("a response").generation, site.get().status),
            (generation, 200),
            "{name}"
        );

        // Whatever lies there, but for a folder, is replaced at once by a rename.
        if path.is_dir() {
            fs::remove_dir(&path).expect("empty");
        }
        fs::rename(site.folder.write("next.toml", &text), &path).expect("one file system");
        site.proxy.process.signal(Signal::HUP);
        wait_until(&format!("{name}: the good one"), || {
            site.proxy.metrics().expect("a response").sum("outrigger_config_last_reload_successful", &[]) == 1.0
        });
        generation = site.proxy.status().expect("a response").generation;
        rejected = site.count("outrigger_config_reloads_total", &[("result", "rejected")]);
    }
    wait_until("no file left open", || site.proxy.process.open_files() <= files);
}
