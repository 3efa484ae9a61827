//! Durable appends: the hub's own example program, run and read.

use std::{path::Path, process::Stdio};

use anyhow::{Context, bail};
use tempfile::TempDir;
use tokio::process::Command;

/// What one way of appending came to, against plain rows in the same run.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Appends {
    /// As the program calls it.
    pub(super) name: String,
    /// Events a second to those of plain rows.
    pub(super) ratio: f64,
    /// Bytes written per byte of event.
    pub(super) amplification: f64,
    /// Events a second.
    pub(super) rate: f64,
}

/// Runs it; `None` if it was not built.
///
/// # Errors
/// It fails, or says something else than expected.
pub(super) async fn appends(beside: &Path, rounds: usize, events: usize) -> anyhow::Result<Option<Vec<Appends>>> {
    let program = beside.with_file_name("examples").join("durable");
    if !program.exists() {
        return Ok(None);
    }
    let dir = TempDir::with_prefix("agent-hub-load-")?;
    let mut command = Command::new(&program);
    command.current_dir(dir.path()).arg(rounds.to_string()).arg(events.to_string());
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output().await.context("starting the example")?;
    let said = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        bail!("the example `durable` failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    let found: Vec<Appends> = said.lines().filter_map(read_line).collect();
    anyhow::ensure!(found.len() >= 2, "the example `durable` said something else than expected:\n{said}");
    Ok(Some(found))
}

/// `store, 1 event an append      123456 events/s  0.56 x  1.20 us CPU  2.40 bytes written per byte  512 appends per commit`
fn read_line(line: &str) -> Option<Appends> {
    let (head, rest) = line.split_once(" events/s")?;
    let (name, rate) = head.trim_end().rsplit_once(' ')?;
    let number = |unit: &str| rest.split(unit).next()?.split_whitespace().next_back()?.parse::<f64>().ok();
    let name = name.trim();
    name.starts_with("store").then_some(())?;
    Some(Appends {
        name: name.to_owned(),
        ratio: number(" x ")?,
        amplification: number(" bytes written per byte")?,
        rate: rate.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_lines_are_read() {
        let line =
            "store, 16 events an append      812345 events/s  0.93 x  1.20 us CPU  2.40 bytes written per byte  512 appends per commit";
        let found = read_line(line).expect("a line");
        assert_eq!(found.name, "store, 16 events an append");
        assert_eq!((found.ratio, found.amplification, found.rate), (0.93, 2.4, 812_345.0));
        assert_eq!(read_line("plain rows, 512 a commit     900000 events/s  1.00 x  0.9 us CPU  2.1 bytes written per byte  512 a"), None);
        assert_eq!(read_line("clean   open 1ms; replay of 1000 events p50 2ms max 3ms"), None);
    }
}
