//! The configuration of the proxy, from the text of a file to values that cannot be invalid.
//!
//! A file goes through two steps. [`file`] parses TOML and keeps the place of every value. [`resolve`] checks each key against its range, fills in
//! defaults and collects every fault of the file. What leaves is a [`Config`]: it holds no string that still has to be parsed and no `Option` that
//! means "default". Nothing outside this module looks at the text of a file.

use std::path::Path;

mod duration;
mod fault;
mod file;
mod resolve;
mod settings;
mod source;
mod weight;

pub use fault::{Fault, Faults};
pub use settings::{
    Address, Config, Drain, Listen, Log, LogFormat, MemoryMax, Policies, Pool, Repeat, Route, Timeouts, Upstream,
};

impl Config {
    /// Reads the text of a configuration file. Messages call the file `name`.
    ///
    /// # Errors
    /// All faults of the text, in order of their place.
    pub fn parse(name: &str, text: &str) -> Result<Config, Faults> {
        file::read(name, text, resolve::read)
    }

    /// Reads a configuration file.
    ///
    /// # Errors
    /// All faults of the text, or one fault if the file cannot be read or would take too much memory.
    pub fn load(path: &Path) -> Result<Config, Faults> {
        let name = path.display().to_string();
        let text = source::read(&name, path)?;
        weight::check(&name, &text, weight::allowed())?;
        Config::parse(&name, &text)
    }
}
