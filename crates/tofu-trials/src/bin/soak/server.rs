//! The server: two groups, each with a thread and two listeners.

use std::{
    collections::HashMap,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use tofu::{Address, ChannelGroup, Engine, Event, Message, OpCode, Options};
use tofu_trials::{
    Fallible,
    app::{listen, tell},
};

use crate::samples::Levels;

pub(crate) const GROUPS: usize = 2;
/// A request with this text header is answered by an abort.
pub(crate) const ABORT: &str = "abort";
/// A request with this one, by an answer and a bye.
pub(crate) const BYE: &str = "bye";
/// An answer says with this one how many signals came before the request on its channel.
pub(crate) const SIGNALS: &str = "signals";

pub(crate) fn run(dir: &str) -> Fallible {
    // Its messages keep the memory of the largest they ever were: a small pool soon has all that it will have.
    let engine = Engine::new(Options::default().pool_messages(64, 64))?;
    let messages = Arc::new(AtomicU64::new(0));
    for nth in 0..GROUPS {
        let mut group = engine.group()?;
        let path = Path::new(dir).join(format!("{nth}.sock"));
        for address in [
            Address::tcp("127.0.0.1", 0)?,
            Address::uds(path.to_string_lossy())?,
        ] {
            let address = listen(&mut group, &address)?;
            tell(format_args!("listening {address}"))?;
        }
        let messages = Arc::clone(&messages);
        thread::spawn(move || serve(group, &messages));
    }
    for _ in std::io::stdin().lines() {
        let metrics = engine.metrics();
        let levels = Levels {
            channels_open: metrics.channels_open as u64,
            half_open: metrics.half_open as u64,
            pool_out: metrics.pool_messages_out as u64,
            queued_bytes: metrics.queued_bytes as u64,
            accepted: metrics.accepted,
            messages: messages.load(Ordering::Relaxed),
        };
        tell(levels.told())?;
    }
    Ok(())
}

fn serve(mut group: ChannelGroup, messages: &AtomicU64) {
    let mut events = Vec::new();
    let mut signals = HashMap::new();
    while group.recv_many(&mut events, 64).is_ok() {
        for event in events.drain(..) {
            match event {
                Event::Message(message) => {
                    messages.fetch_add(1, Ordering::Relaxed);
                    let signals: &mut u64 = signals.entry(message.channel()).or_default();
                    answer(&group, message, signals);
                }
                Event::Closed { channel, .. } => drop(signals.remove(&channel)),
                _ => {}
            }
        }
    }
}

/// What cannot be posted is for a channel that is gone. (A client that reads nothing for a while has not asked for so
/// much that its queue is full: it would miss the answer, and say so.)
fn answer(group: &ChannelGroup, message: Message, signals: &mut u64) {
    let channel = message.channel();
    if message.op_code() == OpCode::Signal {
        *signals += 1;
        return;
    }
    if message.header(ABORT).is_some() {
        let _ = group.post(Message::bye_signal(channel));
        return;
    }
    let then_bye = message.header(BYE).is_some();
    let is_request = message.op_code() == OpCode::Request;
    if let Ok(answer) = message.into_reply() {
        let _ = group.post(if is_request {
            answer.with_header(SIGNALS, signals.to_string())
        } else {
            answer
        });
    }
    if then_bye {
        let _ = group.post(Message::bye_request(channel));
    }
}
