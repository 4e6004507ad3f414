//! `outrigger check`: reads a configuration file and reports all its faults.

use std::path::Path;

use outrigger::config::Config;

use super::failure::Failure;

/// Reads the file and prints a summary of it.
///
/// # Errors
/// The faults of the file.
#[expect(clippy::print_stdout, reason = "the result of the subcommand")]
pub(super) fn check(path: &Path) -> Result<(), Failure> {
    let config = Config::load(path).map_err(Failure::Config)?;
    let routes: usize = config.upstreams.iter().map(|upstream| upstream.routes.len()).sum();
    println!("{}: valid (upstreams: {}, routes: {routes})", path.display(), config.upstreams.len());
    Ok(())
}
