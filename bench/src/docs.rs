//! The tables of docs/performance.md, written from the results that are kept beside it, and compared with them.

use report::block::{Block, Missing};

use crate::results::Results;
use crate::table;

const TABLES: Block = Block("bench");

/// The page with its block replaced by these results.
///
/// # Errors
/// There is no block.
pub(crate) fn write(page: &str, results: &Results) -> Result<String, Missing> {
    TABLES.replace(page, &table::markdown(results))
}

/// The first line of the page that these results contradict.
///
/// # Errors
/// There is no block.
pub(crate) fn drift(page: &str, results: &Results) -> Result<Option<String>, Missing> {
    let block = TABLES.read(page)?;
    let wanted = table::markdown(results);
    let (mut written, mut wanted) = (block.trim().lines(), wanted.trim().lines());
    loop {
        match (written.next(), wanted.next()) {
            (None, None) => return Ok(None),
            (written, wanted) if written == wanted => {}
            (written, wanted) => {
                return Ok(Some(format!(
                    "{:?} where the results say {:?}",
                    written.unwrap_or("nothing"),
                    wanted.unwrap_or("nothing")
                )));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::results::tests::example;

    const PAGE: &str = "# Title\n\n<!-- bench:begin -->\nold\n<!-- bench:end -->\nAfter.\n";

    #[test]
    fn a_written_page_agrees_with_its_results_and_a_changed_one_does_not() {
        let written = write(PAGE, &example()).expect("there is a block");
        assert_eq!(drift(&written, &example()), Ok(None));
        assert_eq!(write(&written, &example()), Ok(written.clone()), "writing twice changes nothing");
        let drifted = drift(&written.replace("18.5 [", "17.5 ["), &example()).expect("there is a block");
        assert!(drifted.is_some_and(|line| line.contains("17.5 [") && line.contains("18.5 [")));
        assert!(drift("# Title\n", &example()).is_err());
    }

    #[test]
    fn the_page_says_what_the_results_beside_it_say() {
        let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
        let results = Results::read(&docs.join("performance.json")).expect("they are kept beside the page");
        let page = std::fs::read_to_string(docs.join("performance.md")).expect("there is a page");
        assert_eq!(
            drift(&page, &results),
            Ok(None),
            "`bench page --write docs/performance.md docs/performance.json` writes it"
        );
    }
}
