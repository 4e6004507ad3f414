//! What client, lab and bench show their results with: numbers, tables, plots, pages, and the blocks of a Markdown page that a program writes.
//!
//! [`format`](mod@format) turns numbers into text. [`table`] holds cells and writes them as plain text, Markdown or HTML. [`plot`] draws SVG. [`page`] puts
//! HTML into one file that needs no other. [`verdict`] lists claims with what was measured. [`block`] replaces and reads the marked part of a document.
//! [`quantile`](mod@quantile) is of values that are all at hand.
//! [`run`] is the client's JSON report, which the lab reads.
//!
//! Nothing here measures, reads a clock or knows a proxy. All of it is pure, but for [`run::Report::read`] and [`run::Report::write`].

pub mod block;
pub mod format;
pub mod html;
pub mod page;
pub mod plot;
pub mod quantile;
pub mod run;
pub mod table;
pub mod verdict;
