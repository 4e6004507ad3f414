//! The part of a Markdown page that a program writes: everything between `<!-- NAME:begin -->` and `<!-- NAME:end -->`.

/// A block by the name in its marks.
#[derive(Debug, Clone, Copy)]
pub struct Block(pub &'static str);

/// The page does not have the block.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no lines <!-- {0}:begin --> and <!-- {0}:end -->, in this order")]
pub struct Missing(&'static str);

impl Block {
    /// The text between the marks.
    ///
    /// # Errors
    /// [`Missing`].
    pub fn read(self, page: &str) -> Result<&str, Missing> {
        Ok(self.split(page)?.1)
    }

    /// The page with `text` between the marks. The text ends with a newline.
    ///
    /// # Errors
    /// [`Missing`].
    pub fn replace(self, page: &str, text: &str) -> Result<String, Missing> {
        let (before, _, after) = self.split(page)?;
        Ok(format!("{before}\n{text}{after}"))
    }

    /// Up to the end of the first mark, between the marks, and from the second mark on.
    fn split(self, page: &str) -> Result<(&str, &str, &str), Missing> {
        let (begin, end) = (format!("<!-- {}:begin -->", self.0), format!("<!-- {}:end -->", self.0));
        let from = page.find(&begin).ok_or(Missing(self.0))? + begin.len();
        let to = from + page[from..].find(&end).ok_or(Missing(self.0))?;
        Ok((&page[..from], &page[from..to], &page[to..]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# Title\n<!-- lab:begin -->\nold\n<!-- lab:end -->\nAfter.\n";

    #[test]
    fn only_the_text_between_the_marks_is_replaced() {
        let page = Block("lab").replace(PAGE, "new\n").expect("there is a block");
        assert_eq!(page, "# Title\n<!-- lab:begin -->\nnew\n<!-- lab:end -->\nAfter.\n");
        assert_eq!(Block("lab").read(&page), Ok("\nnew\n"));
    }

    #[test]
    fn a_page_without_the_marks_in_order_is_refused_by_their_names() {
        for page in ["# Title\n", "<!-- lab:end --><!-- lab:begin -->", "<!-- lab:begin -->"] {
            let error = Block("lab").read(page).expect_err("there is no block").to_string();
            assert_eq!(error, "no lines <!-- lab:begin --> and <!-- lab:end -->, in this order", "{page}");
        }
    }
}
