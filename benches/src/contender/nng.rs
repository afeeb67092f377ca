//! nng, through the crate `nng`, which builds the C library (with cmake).
//!
//! PAIR0 sockets: one connection, no header of their own; `NNG_OPT_TCP_NODELAY` is set (as it is by
//! default). The send and receive buffers hold 8,192 messages, the most that nng allows, instead of
//! none. nng sends one message at a time: it has nothing to gather with.

use nng::{
    Dialer, DialerBuilder, Listener, ListenerBuilder, Message, Protocol, Socket,
    options::{Options, RecvBufferSize, SendBufferSize, transport::tcp},
};

use super::{
    Client, Contender, Endpoint, Fallible,
    messenger::{Kind, Messenger, body, kind_of},
};

const BUFFER_MESSAGES: i32 = 8192;

/// With PAIR0 sockets.
#[derive(Debug)]
pub(super) struct Nng;

impl Contender for Nng {
    fn serve(&self, endpoint: &Endpoint, ready: &mut dyn FnMut(&Endpoint)) -> Fallible {
        let socket = pair()?;
        let builder = ListenerBuilder::new(&socket, &url(endpoint))?;
        if matches!(endpoint, Endpoint::Tcp(_)) {
            builder.set_opt::<tcp::NoDelay>(true)?;
        }
        let listener: Listener = builder.start().map_err(|(_, error)| error)?;
        match endpoint {
            Endpoint::Tcp(_) => ready(&Endpoint::Tcp(listener.get_opt::<tcp::BoundPort>()?)),
            Endpoint::Uds(_) => ready(endpoint),
        }
        loop {
            let message = socket.recv()?;
            if kind_of(&message)? == Kind::Request {
                socket.send(message).map_err(|(_, error)| error)?;
            }
        }
    }

    fn connect(&self, endpoint: &Endpoint) -> Fallible<Box<dyn Client>> {
        let socket = pair()?;
        let builder = DialerBuilder::new(&socket, &url(endpoint))?;
        if matches!(endpoint, Endpoint::Tcp(_)) {
            builder.set_opt::<tcp::NoDelay>(true)?;
        }
        let dialer = builder.start(false).map_err(|(_, error)| error)?;
        Ok(Box::new(Peer {
            socket,
            _dialer: dialer,
        }))
    }
}

fn pair() -> Fallible<Socket> {
    let socket = Socket::new(Protocol::Pair0)?;
    socket.set_opt::<SendBufferSize>(BUFFER_MESSAGES)?;
    socket.set_opt::<RecvBufferSize>(BUFFER_MESSAGES)?;
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
    _dialer: Dialer,
}

impl Messenger for Peer {
    fn post(&mut self, kind: Kind, len: usize) -> Fallible {
        let sent = self.socket.send(Message::from(body(kind, len)));
        Ok(sent.map_err(|(_, error)| error)?)
    }

    fn flush(&mut self) -> Fallible {
        Ok(())
    }

    fn answer(&mut self) -> Fallible {
        self.socket.recv()?;
        Ok(())
    }
}
