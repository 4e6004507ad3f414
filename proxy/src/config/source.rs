//! The text of a configuration file.
//!
//! Whatever lies at the path, reading it ends soon and takes a bounded amount of memory: a pipe without a writer would block for ever, a device may never end,
//! and a file that somebody has put there by mistake may be larger than the memory. `check`, the start and a reload all read through here.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use super::duration::show_size;
use super::fault::Faults;

/// The longest file. A route takes about a hundred bytes, so there is room for tens of thousands.
const FILE_BYTES_MAX: usize = 4 << 20;

/// Reads the file at `path`; faults call it `name`.
///
/// # Errors
/// The one fault of a file that cannot be read, is no regular file, is too long, or is not UTF-8.
pub(super) fn read(name: &str, path: &Path) -> Result<String, Faults> {
    let bytes = read_bytes(path).map_err(|error| Faults::unreadable(name, &error))?;
    String::from_utf8(bytes).map_err(|error| {
        let (bytes, at) = (error.as_bytes(), error.utf8_error().valid_up_to());
        let line = 1 + bytes[..at].iter().filter(|byte| **byte == b'\n').count();
        Faults::not_utf8(name, line, bytes[at])
    })
}

fn read_bytes(path: &Path) -> io::Result<Vec<u8>> {
    // Without blocking: to open a pipe would wait for its writer. What was opened is looked at, so nobody can exchange it in between.
    let opened = rustix::fs::open(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())?;
    let file = File::from(opened);
    let kind = file.metadata()?.file_type();
    if !kind.is_file() {
        let found = if kind.is_dir() { "a directory" } else { "a pipe or a device" };
        return Err(io::Error::other(format!("{found} is not a regular file")));
    }
    let mut bytes = Vec::new();
    let read = file.take(FILE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
    if read > FILE_BYTES_MAX {
        let found = std::fs::metadata(path)?.len();
        return Err(io::Error::other(format!("{found} bytes are more than {}", show_size(FILE_BYTES_MAX))));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What reading a file with this content says.
    fn said(content: &[u8]) -> Result<String, String> {
        let path = std::env::temp_dir().join(format!("outrigger-source-{}-{}", std::process::id(), content.len()));
        std::fs::write(&path, content).expect("writable");
        let read = read("f", &path).map_err(|faults| faults.to_string());
        std::fs::remove_file(&path).expect("it is there");
        read
    }

    #[test]
    fn a_file_of_the_longest_length_is_read_and_one_byte_more_is_a_fault() {
        assert_eq!(said(&vec![b'#'; FILE_BYTES_MAX]).map(|text| text.len()), Ok(FILE_BYTES_MAX));
        let fault = said(&vec![b'#'; FILE_BYTES_MAX + 1]).expect_err("too long");
        assert_eq!(fault, "f: cannot be read: 4194305 bytes are more than 4MiB");
    }

    #[test]
    fn a_fault_names_the_line_where_a_text_stops_being_utf8() {
        assert_eq!(said("a = \"é\"\n".as_bytes()), Ok("a = \"é\"\n".to_owned()));
        assert_eq!(said(b"a = 1\n# \xe9t\xe9\n\xff"), Err("f:2: not UTF-8 from byte 0xe9 on".to_owned()));
        assert_eq!(said(b"\xff\xfea\0"), Err("f:1: not UTF-8 from byte 0xff on".to_owned()));
        assert_eq!(said(b"\n\n\n\xc3"), Err("f:4: not UTF-8 from byte 0xc3 on".to_owned()), "cut within a character");
    }

    #[test]
    fn what_is_no_regular_file_is_refused_at_once() {
        let fault = |path: &str| read("f", Path::new(path)).expect_err("no file").to_string();
        assert_eq!(fault("/dev/zero"), "f: cannot be read: a pipe or a device is not a regular file");
        assert_eq!(fault("/"), "f: cannot be read: a directory is not a regular file");
        let path = std::env::temp_dir().join(format!("outrigger-pipe-{}", std::process::id()));
        let made = std::process::Command::new("mkfifo").arg(&path).status().expect("mkfifo is there");
        assert!(made.success());
        let said = read("f", &path).expect_err("nobody writes to it").to_string();
        std::fs::remove_file(&path).expect("it is there");
        assert_eq!(said, "f: cannot be read: a pipe or a device is not a regular file");
    }
}
