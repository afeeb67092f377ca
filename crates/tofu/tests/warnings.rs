//! With the feature `tracing` the engine warns of what no event tells.

mod support;

use std::{
    fmt::{self, Write},
    sync::{Arc, Mutex},
};

use support::*;
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

/// Keeps what it is told, a line an event.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _ = write!(self.0, "{field}={value:?} ");
    }
}

impl Subscriber for Lines {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(format!("{} ", event.metadata().level()));
        event.record(&mut line);
        self.0.lock().expect("no panic").push(line.0);
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

#[test]
fn a_peer_that_breaks_the_protocol_is_told_of() {
    let lines = Lines::default();
    tracing::subscriber::set_global_default(lines.clone()).expect("the only one");
    let engine = engine();
    let mut server = engine.group().unwrap();
    let (address, _) = listen(&mut server, &loopback());
    let mut raw = Raw::connect(&address);
    raw.write(b"GET / HTTP/1.1\r\n\r\n");
    assert_eq!(raw.read_to_end(), b"");
    let told = lines.0.lock().expect("no panic").clone();
    let [line] = &told[..] else {
        panic!("one line was due: {told:?}");
    };
    assert!(
        line.starts_with("WARN message=a peer broke the protocol"),
        "{line}"
    );
    assert!(
        line.contains("127.0.0.1") && line.contains("reason="),
        "{line}"
    );
}
