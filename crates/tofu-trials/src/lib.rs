//! Trials that take a machine to themselves, and what they share: child processes that are spoken with in
//! lines, what the system tells of a process, raw frames.
//!
//! - `faults`: loss, delay, crashes, stops, full disks, exhausted descriptors, made by the real kernel;
//! - `hostile`: thousands of peers that mean harm, beside a few that do not;
//! - `soak`: mixed traffic with churn for as long as you like, and whether anything grows.
//!
//! Their results stand in the guide, in the chapter on trust.

#![forbid(unsafe_code)]

pub mod app;
pub mod child;
pub mod procfs;
pub mod random;

/// What a trial gives, or why it failed.
pub type Fallible<T = ()> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// The date of today as it stands in the tables.
pub fn today() -> String {
    let date = std::process::Command::new("date").arg("+%Y-%m-%d").output();
    date.map_or_else(
        |_| "?".to_owned(),
        |date| String::from_utf8_lossy(&date.stdout).trim().to_owned(),
    )
}
