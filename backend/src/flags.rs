//! The command line: flags and their environment variables, turned into [`Options`].
//!
//! `--faults` gives the whole picture in JSON; a plain flag then sets its one value on top. Both are checked together, by
//! the same rules and with the same messages as `PUT /faults`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::{fs, io};

use clap::Parser;

use crate::Options;
use crate::faults::{Faults, FaultsError, Latency};
use crate::plan::Plan;

/// The faulty service of the Outrigger lab: responds with one message and misbehaves on demand.
#[derive(Debug, Parser)]
#[command(version)]
pub struct Flags {
    /// Address of the data port
    #[arg(long, env = "BACKEND_LISTEN", default_value = "127.0.0.1:5001")]
    listen: SocketAddr,
    /// Address of the control port
    #[arg(long, env = "BACKEND_CONTROL", default_value = "127.0.0.1:5002")]
    control: SocketAddr,
    /// Start of the generator: the same seed gives the n-th request the same fate
    #[arg(long, env = "BACKEND_SEED", default_value_t = 1)]
    seed: u64,
    /// All faults at once, the same JSON as PUT /faults
    #[arg(long, env = "BACKEND_FAULTS", value_name = "JSON|@FILE")]
    faults: Option<String>,
    /// Every request takes this long
    #[arg(long, env = "BACKEND_LATENCY", value_name = "DURATION", value_parser = parse_ms)]
    latency: Option<u64>,
    /// Share of requests that take longer still
    #[arg(long, env = "BACKEND_SLOW_SHARE", value_name = "SHARE")]
    slow_share: Option<f64>,
    /// How much longer they take [default: 200ms]
    #[arg(long, env = "BACKEND_SLOW_BY", value_name = "DURATION", value_parser = parse_ms)]
    slow_by: Option<u64>,
    /// Share of requests that get an HTTP error
    #[arg(long, env = "BACKEND_ERROR_SHARE", value_name = "SHARE")]
    error_share: Option<f64>,
    /// Their statuses, equally likely [default: 500,503]
    #[arg(long, env = "BACKEND_ERROR_STATUSES", value_name = "STATUS,…", value_delimiter = ',')]
    error_statuses: Option<Vec<u16>>,
    /// Their retry-after header: seconds or an HTTP-date
    #[arg(long, env = "BACKEND_RETRY_AFTER", value_name = "TEXT")]
    retry_after: Option<String>,
    /// Share of requests that get no response
    #[arg(long, env = "BACKEND_HANG_SHARE", value_name = "SHARE")]
    hang_share: Option<f64>,
    /// Share of requests reset before the response
    #[arg(long, env = "BACKEND_RESET_BEFORE_SHARE", value_name = "SHARE")]
    reset_before_share: Option<f64>,
    /// Share of requests reset in the middle of the response's body
    #[arg(long, env = "BACKEND_RESET_DURING_SHARE", value_name = "SHARE")]
    reset_during_share: Option<f64>,
    /// Share of responses that end cleanly after half of the body
    #[arg(long, env = "BACKEND_TRUNCATE_SHARE", value_name = "SHARE")]
    truncate_share: Option<f64>,
    /// Share of responses whose body drips over a second
    #[arg(long, env = "BACKEND_SLOW_BODY_SHARE", value_name = "SHARE")]
    slow_body_share: Option<f64>,
}

/// Why the command line was refused, beyond what clap itself refuses.
#[derive(Debug, thiserror::Error)]
pub enum FlagsError {
    /// `--faults @FILE` names no readable file.
    #[error("--faults: cannot read {}: {cause}", path.display())]
    File {
        /// As given after the `@`.
        path: PathBuf,
        /// Why it could not be read.
        cause: io::Error,
    },
    /// The faults, from JSON and flags together, make no sense.
    #[error(transparent)]
    Faults(#[from] FaultsError),
}

impl TryFrom<Flags> for Options {
    type Error = FlagsError;

    fn try_from(flags: Flags) -> Result<Self, FlagsError> {
        let mut faults = match flags.faults.as_deref() {
            Some(text) => read_faults(text)?,
            None => Faults::default(),
        };
        if let Some(ms) = flags.latency {
            faults.latency = Latency::Fixed { ms };
        }
        set(&mut faults.slow.share, flags.slow_share);
        set(&mut faults.slow.by_ms, flags.slow_by);
        set(&mut faults.errors.share, flags.error_share);
        set(&mut faults.errors.statuses, flags.error_statuses);
        set(&mut faults.hang.share, flags.hang_share);
        set(&mut faults.reset_before.share, flags.reset_before_share);
        set(&mut faults.reset_during.share, flags.reset_during_share);
        set(&mut faults.truncate.share, flags.truncate_share);
        set(&mut faults.slow_body.share, flags.slow_body_share);
        if flags.retry_after.is_some() {
            faults.errors.retry_after = flags.retry_after;
        }
        Ok(Self { listen: flags.listen, control: flags.control, seed: flags.seed, plan: Plan::new(faults)? })
    }
}

fn set<T>(place: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *place = value;
    }
}

fn read_faults(text: &str) -> Result<Faults, FlagsError> {
    let json = match text.strip_prefix('@') {
        Some(path) => &fs::read_to_string(path).map_err(|cause| FlagsError::File { path: path.into(), cause })?,
        None => text,
    };
    Ok(serde_json::from_str(json).map_err(FaultsError::Json)?)
}

/// `250ms` or `1s`, in milliseconds. An absurd number of seconds saturates and is then refused as too long.
fn parse_ms(text: &str) -> Result<u64, &'static str> {
    let (number, unit_ms) = match text.strip_suffix("ms") {
        Some(number) => (number, 1),
        None => (text.strip_suffix('s').unwrap_or_default(), 1000),
    };
    let number: u64 = number.parse().map_err(|_| "a duration is a whole number with ms or s, as in 250ms")?;
    Ok(number.saturating_mul(unit_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(arguments: &[&str]) -> Result<Options, String> {
        let flags = Flags::try_parse_from([&["backend"], arguments].concat()).map_err(|error| error.to_string())?;
        Options::try_from(flags).map_err(|error| error.to_string())
    }

    #[test]
    fn a_plain_flag_sets_its_value_on_top_of_the_json() {
        let json = r#"{"errors":{"share":0.1,"statuses":[503]},"hang":{"share":0.2}}"#;
        let options = options(&["--faults", json, "--error-share", "0.5", "--latency", "1s", "--slow-by", "20ms"])
            .expect("these flags are valid");
        let faults = options.plan.faults();
        assert_eq!(faults.errors.share, 0.5);
        assert_eq!(faults.errors.statuses, [503]);
        assert_eq!(faults.hang.share, 0.2);
        assert_eq!(faults.latency, Latency::Fixed { ms: 1000 });
        assert_eq!(faults.slow.by_ms, 20);
    }

    #[test]
    fn bad_flags_are_refused_with_what_is_allowed() {
        let rows: [(&[&str], &str); 6] = [
            (&["--error-share", "1.5"], "errors.share: 1.5 is not between 0 and 1"),
            (&["--error-share", "0.5", "--hang-share", "0.75"], "add up to 1.25, more than 1"),
            (&["--latency", "20"], "a duration is a whole number with ms or s, as in 250ms"),
            (&["--latency", "18446744073709551615s"], "is more than 3600000, one hour"),
            (
                &["--faults", r#"{"hang":1}"#],
                "faults: invalid type: integer `1`, expected an object with the key share",
            ),
            (&["--faults", "@/nowhere/faults.json"], "--faults: cannot read /nowhere/faults.json"),
        ];
        for (arguments, expected) in rows {
            let message = options(arguments).expect_err("these flags are wrong");
            assert!(message.contains(expected), "{arguments:?} gave {message}");
        }
    }
}
