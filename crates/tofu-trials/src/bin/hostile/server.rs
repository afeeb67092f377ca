//! The server under attack: it answers requests, looks at their text headers, and counts signals. Who does not take its
//! answers gets none to what it asks until there is room for them again.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use nix::sys::resource::{Resource, getrlimit};
use tofu::{Address, ChannelGroup, Engine, Event, Message, OpCode, Options};
use tofu_trials::{
    Fallible,
    app::{has_room, listen, tell},
};

use crate::{
    counted::{Counted, What},
    places,
};

pub(crate) const POOL_MESSAGES: usize = 512;
pub(crate) const CHANNEL_QUEUE_BYTES: usize = 160 * 1024;
pub(crate) const ENGINE_QUEUE_BYTES: usize = 256 * 1024 * 1024;
const CHANNELS_MAX: usize = 32_000;
/// Descriptors that are no channels: pollers, wakers, pipes, and what is accepted to be closed.
const DESCRIPTORS_SPARE: usize = 100;

/// Who asks for this gets a large answer.
pub(crate) const LARGE: &str = "large";
pub(crate) const LARGE_LEN: usize = 60_000;

/// Listens on two addresses and tells them: everybody's, and that of the honest clients. All channels are in one group, or
/// those of the honest clients in one of their own, with a thread on this core.
pub(crate) fn run(own_group: Option<usize>) -> Fallible {
    let options = Options::default()
        .pool_messages(64, POOL_MESSAGES)
        .queue_bytes(CHANNEL_QUEUE_BYTES, ENGINE_QUEUE_BYTES)
        .channels_max(channels_max())
        .half_open_max(4_096);
    let engine = Engine::new(options)?;
    let any = Address::tcp("127.0.0.1", 0)?;
    let mut everybodys = engine.group()?;
    let address = listen(&mut everybodys, &any)?;
    let mut honest = own_group.map(|_| engine.group()).transpose()?;
    let honest_address = listen(honest.as_mut().unwrap_or(&mut everybodys), &any)?;
    tell(format_args!("listening {address} {honest_address}"))?;
    let heard = Arc::new(AtomicU64::new(0));
    let messages = Arc::clone(&heard);
    thread::spawn(move || {
        for _ in std::io::stdin().lines() {
            let messages = messages.load(Ordering::Relaxed);
            if tell(counted(&engine, messages).told()).is_err() {
                return;
            }
        }
    });
    let (Some(core), Some(honest)) = (own_group, honest) else {
        return serve(everybodys, &heard);
    };
    let messages = Arc::clone(&heard);
    thread::spawn(move || serve(everybodys, &messages).expect("a server"));
    places::come_first_on(core)?;
    serve(honest, &heard)
}

fn serve(mut group: ChannelGroup, heard: &AtomicU64) -> Fallible {
    let mut events = Vec::new();
    // Channels whose queue is full. No answer is made for them that would be refused.
    let mut full = HashSet::new();
    loop {
        group.recv_many(&mut events, 64)?;
        for event in events.drain(..) {
            match event {
                Event::Message(message) => {
                    heard.fetch_add(1, Ordering::Relaxed);
                    let channel = message.channel();
                    if full.contains(&channel) && message.op_code() != OpCode::ByeRequest {
                        continue;
                    }
                    // Its peer may also be gone.
                    if let Some(answer) = answer(&message)
                        && has_room(group.post(answer)).is_ok_and(|has_room| !has_room)
                    {
                        full.insert(channel);
                    }
                }
                Event::Drained(channel) | Event::Closed { channel, .. } => {
                    full.remove(&channel);
                }
                _ => {}
            }
        }
    }
}

/// As many as there are descriptors for: who is refused is closed at once, and nobody waits meanwhile.
fn channels_max() -> usize {
    let descriptors = getrlimit(Resource::RLIMIT_NOFILE).map_or(1_024, |(soft, _)| soft);
    usize::try_from(descriptors)
        .unwrap_or(usize::MAX)
        .min(CHANNELS_MAX)
        - DESCRIPTORS_SPARE
}

fn answer(message: &Message) -> Option<Message> {
    if message.op_code() == OpCode::Signal {
        return None;
    }
    // An application that looks for a header that is not there reads them all.
    let is_large = message.header(LARGE).is_some();
    if is_large {
        return Some(message.reply().ok()?.with_body(vec![b'x'; LARGE_LEN]));
    }
    let body = message.body().to_vec();
    Some(message.reply().ok()?.with_body(body))
}

fn counted(engine: &Engine, messages: u64) -> Counted {
    let m = engine.metrics();
    Counted::default()
        .with(What::Messages, messages)
        .with(What::Open, m.channels_open as u64)
        .with(What::HalfOpen, m.half_open as u64)
        .with(What::QueuedKib, m.queued_bytes as u64 / 1024)
        .with(What::PoolOut, m.pool_messages_out as u64)
        .with(What::Accepted, m.accepted)
        .with(What::RefusedHalfOpen, m.refused_half_open)
        .with(What::RefusedChannels, m.refused_channels)
        .with(What::OutOfDescriptors, m.out_of_descriptors)
        .with(What::HelloTimeouts, m.hello_timeouts)
        .with(What::FrameTimeouts, m.frame_timeouts)
        .with(What::Violations, m.violations())
        .with(What::QueueFull, m.queue_full)
        .with(What::PoolEmpty, m.pool_empty)
        .with(What::ChannelsMax, channels_max() as u64)
}
