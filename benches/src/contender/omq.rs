//! omq, the `ZeroMQ` in Rust of the crate `omq-tokio`, through its blocking sockets.
//!
//! PAIR sockets with the default options: one connection, nothing to route. An I/O thread of its own
//! gathers; messages are received with `recv_many_into`, as many as there are. Its busy poll
//! (`recv_spin`) stays off: with one core for each process it takes that from the I/O thread, and round
//! trips on uds were ten times slower with it.

use std::{collections::VecDeque, time::Duration};

use omq_tokio::{Context, Endpoint as Bound, Message, Options, SocketType, blocking::Socket};

use super::{
    Client, Contender, Endpoint, Fallible,
    messenger::{Kind, Messenger, body, kind_of},
};

const BATCH: usize = 256;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// With blocking sockets.
#[derive(Debug)]
pub(super) struct Omq;

impl Contender for Omq {
    fn serve(&self, endpoint: &Endpoint, ready: &mut dyn FnMut(&Endpoint)) -> Fallible {
        let mut peer = pair();
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
        let peer = pair();
        peer.socket.connect(url(endpoint))?;
        peer.socket.wait_connected(1, CONNECT_TIMEOUT)?;
        Ok(Box::new(peer))
    }
}

pub(super) fn url(endpoint: &Endpoint) -> String {
    match endpoint {
        Endpoint::Tcp(port) => format!("tcp://127.0.0.1:{port}"),
        Endpoint::Uds(path) => format!("ipc://{}", path.display()),
    }
}

fn pair() -> Peer {
    let context = Context::new();
    Peer {
        socket: context.blocking_socket(SocketType::Pair, Options::default()),
        _context: context,
        batch: Vec::with_capacity(BATCH),
        received: VecDeque::with_capacity(BATCH),
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
