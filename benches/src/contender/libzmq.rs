//! libzmq, through the crate `zmq`, which builds the C++ library.
//!
//! PAIR sockets: one connection, nothing to route, the least work that libzmq can do; `TCP_NODELAY` is
//! on in it. PAIR waits at the high-water marks and never drops. They stay at 1,000 messages: with
//! 100,000 it was slower in all but one of the one-way cases here, as what waits leaves the caches. It
//! gathers in an I/O thread of its own. Messages are received into one that is used again.

use zmq::{Context, Message, PAIR, Socket};

use super::{
    Client, Contender, Endpoint, Fallible,
    messenger::{Kind, Messenger, body, kind_of},
};

/// With PAIR sockets.
#[derive(Debug)]
pub(super) struct Libzmq;

impl Contender for Libzmq {
    fn serve(&self, endpoint: &Endpoint, ready: &mut dyn FnMut(&Endpoint)) -> Fallible {
        let context = Context::new();
        let socket = pair(&context)?;
        socket.bind(&match endpoint {
            Endpoint::Tcp(0) => "tcp://127.0.0.1:*".to_owned(),
            other => url(other),
        })?;
        let bound = socket
            .get_last_endpoint()?
            .map_err(|_| "an endpoint that is not UTF-8")?;
        match (endpoint, bound.rsplit_once(':')) {
            (Endpoint::Tcp(_), Some((_, port))) => ready(&Endpoint::Tcp(port.parse()?)),
            _ => ready(endpoint),
        }
        let mut message = Message::new();
        loop {
            socket.recv(&mut message, 0)?;
            if kind_of(&message)? == Kind::Request {
                socket.send(std::mem::replace(&mut message, Message::new()), 0)?;
            }
        }
    }

    fn connect(&self, endpoint: &Endpoint) -> Fallible<Box<dyn Client>> {
        let context = Context::new();
        let socket = pair(&context)?;
        socket.connect(&url(endpoint))?;
        Ok(Box::new(Peer {
            socket,
            received: Message::new(),
        }))
    }
}

fn pair(context: &Context) -> Fallible<Socket> {
    let socket = context.socket(PAIR)?;
    socket.set_linger(0)?;
    Ok(socket)
}

fn url(endpoint: &Endpoint) -> String {
    match endpoint {
        Endpoint::Tcp(port) => format!("tcp://127.0.0.1:{port}"),
        Endpoint::Uds(path) => format!("ipc://{}", path.display()),
    }
}

struct Peer {
    socket: Socket,
    received: Message,
}

impl Messenger for Peer {
    fn post(&mut self, kind: Kind, len: usize) -> Fallible {
        Ok(self.socket.send(body(kind, len), 0)?)
    }

    fn flush(&mut self) -> Fallible {
        Ok(())
    }

    fn answer(&mut self) -> Fallible {
        Ok(self.socket.recv(&mut self.received, 0)?)
    }
}
