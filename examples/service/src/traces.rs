//! Keeps what is traced, to show some of it at the end; a real service would send it elsewhere.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use tracing::Level;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::FmtSpan;

/// Everything that was traced, as text.
#[derive(Clone, Default)]
pub(crate) struct Traces(Arc<Mutex<Vec<u8>>>);

impl Traces {
    /// Has everything traced from now on.
    pub(crate) fn start() -> Self {
        let traces = Self::default();
        tracing_subscriber::fmt()
            .with_writer(traces.clone())
            .with_max_level(Level::DEBUG)
            // A line for each span when it closes, with its outcome.
            .with_span_events(FmtSpan::CLOSE)
            .with_ansi(false)
            .without_time()
            .init();
        traces
    }

    fn lines(&self) -> Vec<String> {
        let text = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(&text);
        text.lines().filter(|line| line.contains("async_lru")).map(str::to_owned).collect()
    }

    /// How many loads have ended.
    pub(crate) fn loads(&self) -> usize {
        self.lines().iter().filter(|line| line.contains("close")).count()
    }

    /// One line of each kind.
    pub(crate) fn some(&self) -> Vec<String> {
        let lines = self.lines();
        let kinds = [
            "outcome=\"value\"",
            "refresh=true outcome=\"value\"",
            "load failed",
            "refresh failed",
        ];
        let first = |kind: &&str| lines.iter().find(|line| line.contains(kind)).cloned();
        kinds.iter().filter_map(first).collect()
    }
}

impl Write for Traces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Traces {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}
