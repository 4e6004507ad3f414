//! The CSV file: one line for each request, written as requests end, so in the order in which they ended.
//!
//! Nothing is kept in memory, so that a long run needs no more than a short one. No field needs quoting: ids are letters,
//! digits, `.`, `_` and `-`, the rest are numbers and the names of failures.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::time::Duration;

use crate::record::Sample;

const HEAD: &str = "n,id,due_unix_ms,latency_ms,status,error";

/// The lines of one run.
#[derive(Debug)]
pub struct Rows<W: Write = BufWriter<File>> {
    out: W,
    id_prefix: String,
    started_unix: Duration,
}

impl<W: Write> Rows<W> {
    /// Writes the head. Request n has the id `<id_prefix>-n`.
    ///
    /// # Errors
    /// Those of the file.
    pub fn begin(mut out: W, id_prefix: &str, started_unix: Duration) -> io::Result<Self> {
        writeln!(out, "{HEAD}")?;
        Ok(Self { out, id_prefix: id_prefix.to_owned(), started_unix })
    }

    /// Writes one line. `latency_ms` is empty if the request was never sent; status and error are empty if there is none.
    ///
    /// # Errors
    /// Those of the file.
    pub fn write(&mut self, sample: &Sample) -> io::Result<()> {
        let n = sample.ticket.n;
        let due_ms = (self.started_unix + sample.ticket.due).as_secs_f64() * 1_000.0;
        write!(self.out, "{n},{}-{n},{due_ms:.3},", self.id_prefix)?;
        if let Some(latency) = sample.latency {
            write!(self.out, "{:.3}", latency.as_secs_f64() * 1_000.0)?;
        }
        let status = sample.outcome.status.as_ref().map_or("", |status| status.as_str());
        let error = sample.outcome.failure.map_or("", |failure| failure.name());
        writeln!(self.out, ",{status},{error}")
    }

    /// Writes what is still buffered.
    ///
    /// # Errors
    /// Those of the file.
    pub fn finish(mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use hyper::StatusCode;

    use super::*;
    use crate::connection::Outcome;
    use crate::load::Ticket;
    use report::run::Failure;

    #[test]
    fn a_line_leaves_empty_what_there_is_not() {
        let check = |latency: Option<u64>, outcome: Outcome, expected: &str| {
            let mut out = Vec::new();
            let mut rows = Rows::begin(&mut out, "run", Duration::from_millis(1_000)).expect("memory");
            let ticket = Ticket { n: 7, due: Duration::from_micros(20_500) };
            rows.write(&Sample { ticket, latency: latency.map(Duration::from_micros), outcome }).expect("memory");
            rows.finish().expect("memory");
            assert_eq!(String::from_utf8(out).expect("text"), format!("{HEAD}\n{expected}\n"));
        };
        let status = Some(StatusCode::OK);
        check(Some(1_234), Outcome { status, ..Outcome::default() }, "7,run-7,1020.500,1.234,200,");
        check(Some(9_000), Outcome::failed(Failure::Refused), "7,run-7,1020.500,9.000,,refused");
        check(None, Outcome::failed(Failure::Overload), "7,run-7,1020.500,,,overload");
        let truncated = Outcome { status, attempts: None, failure: Some(Failure::Truncated) };
        check(Some(5), truncated, "7,run-7,1020.500,0.005,200,truncated");
    }
}
