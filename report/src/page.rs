//! One HTML file that needs nothing else: no script and no other host.
//!
//! The plots are SVG and their tooltips are the browser's own. Light and dark follow the reader's system, so the file can be mailed or kept for years.

use crate::html::escape;
use crate::plot;

const STYLE: &str = include_str!("page.css");

/// A whole page with this title (plain text) around this body (HTML). `style` is CSS that only this page needs.
#[must_use]
pub fn document(title: &str, style: &str, body: &str) -> String {
    let title = escape(title);
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{title}</title>\n\
         <style>\n{STYLE}{}{style}</style>\n</head>\n<body>\n<main>\n{body}</main>\n</body>\n</html>\n",
        plot::STYLE,
    )
}

/// The head of a page: what made it, its title, and a line of facts (left out if empty); plain text.
#[must_use]
pub fn header(kicker: &str, title: &str, facts: &str) -> String {
    let facts = if facts.is_empty() { String::new() } else { format!("<p class=\"facts\">{}</p>\n", escape(facts)) };
    let (kicker, title) = (escape(kicker), escape(title));
    format!("<header>\n<p class=\"kicker\">{kicker}</p>\n<h1>{title}</h1>\n{facts}</header>\n")
}

/// A card with this heading (plain text) above this body (HTML). An empty id is left out.
#[must_use]
pub fn section(id: &str, heading: &str, body: &str) -> String {
    let id = if id.is_empty() { String::new() } else { format!(" id=\"{id}\"") };
    format!("<section{id}>\n<h2>{}</h2>\n{body}</section>\n", escape(heading))
}
