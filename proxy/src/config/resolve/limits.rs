//! How much of a message is taken, from either side: heads, and what stands around a body's chunks.

use outrigger_http1::parse::Limits;

use crate::config::file::{Settled, Table};

use super::{KIB, MIB};

/// Of the app's requests, in `[listen]`.
pub(super) fn read_requests(table: &mut Table<'_>) -> Limits {
    let head = read_head(table);
    let line = table.size("request_line_bytes_max", KIB..=MIB).at_most(16 * KIB, &head, table.faults).value;
    Limits { first_line_bytes: line, ..read_rest(table, &head) }
}

/// Of an upstream's answers, in `[upstreams.NAME.answer]`.
pub(super) fn read_answers(table: &mut Table<'_>) -> Limits {
    let head = read_head(table);
    let interim = table.integer("interim_max", 0..=100).or(8);
    Limits { informational_responses: interim, ..read_rest(table, &head) }
}

fn read_head(table: &mut Table<'_>) -> Settled<usize> {
    table.size("head_bytes_max", 8 * KIB..=MIB).settle(32 * KIB)
}

/// A status line is a line like another; requests have their own number for their first, which holds the target, and no interim ones.
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

/// A mebibyte at most.
fn short(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}
