//! The one integration test binary: each module drives the library from outside.

mod config;
mod docs;
mod k8s;
mod supply;
mod tidy;
