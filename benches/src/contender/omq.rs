//! omq, the `ZeroMQ` in Rust of the crate `omq-tokio`, through its blocking sockets.
//!
//! PAIR sockets: one connection, nothing to route; it gathers on its own. `omq` has its default
//! options, with `recv_many_into` where many messages may wait, as its own measurements take them in
//! batches. `omq-latency` has the latency profile, and polls for 50 us before it sleeps
//! (`recv_spin`), as its documentation shows for round trips.

use std::{collections::VecDeque, time::Duration};

use omq_tokio::{
    Context, Endpoint as Bound, Message, Options, SocketType, blocking::Socket,
    options::WorkloadProfile,
};

use super::{
    Client, Contender, Endpoint, Fallible,
    messenger::{Kind, Messenger, body, kind_of},
};

const BATCH: usize = 256;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// With these options.
#[derive(Debug, Default)]
pub(super) struct Omq {
    options: Options,
}

impl Omq {
    /// For round trips.
    pub(super) fn latency() -> Self {
        let options = Options::default()
            .workload_profile(WorkloadProfile::Latency)
            .recv_spin(Duration::from_micros(50));
        Self { options }
    }

    fn pair(&self) -> Peer {
        let context = Context::new();
        Peer {
            socket: context.blocking_socket(SocketType::Pair, self.options.clone()),
            _context: context,
            batch: Vec::with_capacity(BATCH),
            received: VecDeque::with_capacity(BATCH),
        }
    }
}

impl Contender for Omq {
    fn serve(&self, endpoint: &Endpoint, ready: &mut dyn FnMut(&Endpoint)) -> Fallible {
        let mut peer = self.pair();
        match peer.socket.bind(url(endpoint))? {
            Bound::Tcp { port, .. } => ready(&Endpoint::Tcp(port)),
            _ => ready(endpoint),
        }
        loop {
            let message = peer.receive()?;
            let kind = kind_of(message.get(0).ok_or("a message of no parts")?)?;
            if kind == Kind::Request {
                peer.socket.send(message)?;
            }
        }
    }

    fn connect(&self, endpoint: &Endpoint) -> Fallible<Box<dyn Client>> {
        let peer = self.pair();
        peer.socket.connect(url(endpoint))?;
        peer.socket.wait_connected(1, CONNECT_TIMEOUT)?;
        Ok(Box::new(peer))
    }
}

fn url(endpoint: &Endpoint) -> String {
    match endpoint {
        Endpoint::Tcp(port) => format!("tcp://127.0.0.1:{port}"),
        Endpoint::Uds(path) => format!("ipc://{}", path.display()),
    }
}

struct Peer {
    socket: Socket,
    _context: Context,
    batch: Vec<Message>,
    received: VecDeque<Message>,
}

impl Peer {
    fn receive(&mut self) -> Fallible<Message> {
        if let Some(message) = self.received.pop_front() {
            return Ok(message);
        }
        self.socket.recv_many_into(BATCH, &mut self.batch)?;
        self.received.extend(self.batch.drain(..));
        Ok(self.received.pop_front().ok_or("a batch of nothing")?)
    }
}

impl Messenger for Peer {
    fn post(&mut self, kind: Kind, len: usize) -> Fallible {
        Ok(self.socket.send(Message::from_slice(body(kind, len)))?)
    }

    fn flush(&mut self) -> Fallible {
        Ok(())
    }

    fn answer(&mut self) -> Fallible {
        self.receive()?;
        Ok(())
    }
}
