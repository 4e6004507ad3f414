//! `[log]`.

use tracing::Level;

use crate::config::file::Table;
use crate::config::settings::{Log, LogFormat};

pub(super) fn read(table: &mut Table<'_>) -> Log {
    let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
    let levels = [("error", Level::ERROR), ("warn", Level::WARN), ("info", Level::INFO), ("debug", Level::DEBUG)];
    Log {
        format: table.choice("format", &formats).or(LogFormat::Text),
        level: table.choice("level", &levels).or(Level::INFO),
        access: table.boolean("access").or(false),
    }
}
