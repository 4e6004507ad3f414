//! The client's CSV, one row a request: what the summary of a run does not have, such as which responses came while a breaker was open.

use std::path::Path;

/// One request, as the client saw it.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// The `x-request-id` it carried.
    pub id: String,
    /// When it was due, in seconds since the start of the load.
    pub due_s: f64,
    /// `None` if it was never sent.
    pub latency_ms: Option<f64>,
    /// `None` if there was no response.
    pub status: Option<u16>,
    /// Empty if the response is complete.
    pub error: String,
}

impl Row {
    /// By the client's rule: a complete response of 2xx or 3xx.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.error.is_empty() && self.status.is_some_and(|status| (200..400).contains(&status))
    }

    /// When it ended, in seconds since the start of the load.
    #[must_use]
    pub fn ended_s(&self) -> f64 {
        self.due_s + self.latency_ms.unwrap_or_default() / 1_000.0
    }
}

/// Reads a CSV file, in the order in which requests were due.
///
/// # Errors
/// A sentence that names the file, and the line that is none.
pub fn read(path: &Path, load_began_unix_ms: f64) -> Result<Vec<Row>, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    parse(&text, load_began_unix_ms).map_err(|line| format!("{}: no row: {line}", path.display()))
}

fn parse(text: &str, load_began_unix_ms: f64) -> Result<Vec<Row>, &str> {
    let rows = text.lines().skip(1).map(|line| row(line, load_began_unix_ms).ok_or(line));
    let mut rows: Vec<Row> = rows.collect::<Result<_, _>>()?;
    rows.sort_by(|a, b| a.due_s.total_cmp(&b.due_s));
    Ok(rows)
}

/// `n,id,due_unix_ms,latency_ms,status,error`
fn row(line: &str, load_began_unix_ms: f64) -> Option<Row> {
    let fields: Vec<&str> = line.split(',').collect();
    let &[_, id, due, latency, status, error] = fields.as_slice() else { return None };
    let due_unix_ms: f64 = due.parse().ok()?;
    Some(Row {
        id: id.to_owned(),
        due_s: (due_unix_ms - load_began_unix_ms) / 1_000.0,
        latency_ms: if latency.is_empty() { None } else { Some(latency.parse().ok()?) },
        status: if status.is_empty() { None } else { Some(status.parse().ok()?) },
        error: error.to_owned(),
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A row of a response, or of none if `status` is 0.
    pub(crate) fn row_at(due_s: f64, latency_ms: f64, status: u16) -> Row {
        let error = if status == 0 { "refused" } else { "" };
        Row {
            id: String::new(),
            due_s,
            latency_ms: Some(latency_ms),
            status: (status > 0).then_some(status),
            error: error.to_owned(),
        }
    }

    #[test]
    fn rows_are_sorted_by_due_time_and_empty_fields_are_absent() {
        let text = "n,id,due_unix_ms,latency_ms,status,error\n1,x-1,1500.000,2.5,200,\n0,x-0,1000.250,,,overload\n";
        let rows = parse(text, 1_000.0).expect("valid");
        let unsent =
            Row { id: "x-0".to_owned(), due_s: 0.00025, latency_ms: None, status: None, error: "overload".to_owned() };
        assert_eq!(rows[0], unsent);
        assert_eq!((rows[1].due_s, rows[1].is_success(), rows[1].ended_s()), (0.5, true, 0.5025));
        assert_eq!(parse("head\n1,2,3\n", 0.0), Err("1,2,3"));
    }
}
