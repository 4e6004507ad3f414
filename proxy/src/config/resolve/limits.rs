//! How much of a request or response the proxy accepts, without the data of its body: heads, trailers and chunk extensions.

use outrigger_http1::parse::Limits;

use crate::config::file::{Settled, Table};

use super::units::{KIB, MIB};

/// Limits of requests, in `[listen]`.
pub(super) fn read_requests(table: &mut Table<'_>) -> Limits {
    let head = read_head(table);
    let line = table.size("request_line_bytes_max", KIB..=MIB).at_most(16 * KIB, &head, table.faults).value;
    Limits { first_line_bytes: line, ..read_rest(table, &head) }
}

/// Limits of responses, in `[upstreams.NAME.response]`.
pub(super) fn read_responses(table: &mut Table<'_>) -> Limits {
    let head = read_head(table);
    let informational = table.integer("informational_max", 0..=100).or(8);
    Limits { informational_responses: informational, ..read_rest(table, &head) }
}

fn read_head(table: &mut Table<'_>) -> Settled<usize> {
    table.size("head_bytes_max", 8 * KIB..=MIB).settle(32 * KIB)
}

/// The limits that both have. A status line has the limit of a header field; [`read_requests`] sets another one for request lines.
fn read_rest(table: &mut Table<'_>, head: &Settled<usize>) -> Limits {
    let field = table.size("header_bytes_max", KIB..=MIB).at_most(16 * KIB, head, table.faults).value;
    Limits {
        first_line_bytes: field,
        field_bytes: field,
        head_bytes: head.value,
        fields: table.integer("headers_max", 1..=1_000).or(100),
        trailer_bytes: table.size("trailer_bytes_max", 0..=MIB).map(short).or(short(8 * KIB)),
        trailer_fields: table.integer("trailers_max", 0..=1_000).or(32),
        extension_bytes: table.size("chunk_extension_bytes_max", 0..=MIB).map(short).or(short(4 * KIB)),
        informational_responses: 0,
    }
}

/// A size of at most 1 MiB.
fn short(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}
