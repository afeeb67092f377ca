//! zeromq, the `ZeroMQ` in Rust of the crate of that name, on tokio.
//!
//! DEALER to DEALER, as it has no PAIR: one connection, nothing to route. A runtime on the current
//! thread; it sets `TCP_NODELAY`, and gathers up to 128 messages for one write on its own. Its receive
//! buffer starts at 64 KiB, its maximum, instead of growing to that.

use bytes::Bytes;
use futures_util::FutureExt;
use tokio::runtime::{Builder, Runtime};
use zeromq::{
    DealerSocket, Endpoint as Bound, Socket, SocketOptions, SocketRecv, SocketSend, ZmqMessage,
};

use super::{
    Client, Contender, Endpoint, Fallible, Laps,
    messenger::{Kind, body, kind_of},
};

const READ_BUFFER: usize = 64 * 1024;

/// With DEALER sockets.
#[derive(Debug)]
pub(super) struct Zeromq;

impl Contender for Zeromq {
    fn serve(&self, endpoint: &Endpoint, ready: &mut dyn FnMut(&Endpoint)) -> Fallible {
        runtime()?.block_on(async {
            let mut socket = dealer();
            match socket.bind(&url(endpoint)).await? {
                Bound::Tcp(_, port) => ready(&Endpoint::Tcp(port)),
                _ => ready(endpoint),
            }
            loop {
                let message = socket.recv().await?;
                let kind = kind_of(message.get(0).ok_or("a message of no frames")?)?;
                if kind == Kind::Request {
                    socket.send(message).await?;
                }
            }
        })
    }

    fn connect(&self, endpoint: &Endpoint) -> Fallible<Box<dyn Client>> {
        let runtime = runtime()?;
        let socket = runtime.block_on(async {
            let mut socket = dealer();
            socket.connect(&url(endpoint)).await?;
            Fallible::Ok(socket)
        })?;
        Ok(Box::new(Peer { runtime, socket }))
    }
}

fn runtime() -> Fallible<Runtime> {
    Ok(Builder::new_current_thread().enable_all().build()?)
}

fn dealer() -> DealerSocket {
    let mut options = SocketOptions::default();
    options.read_buffer(READ_BUFFER, READ_BUFFER, 2);
    DealerSocket::with_options(options)
}

fn url(endpoint: &Endpoint) -> String {
    match endpoint {
        Endpoint::Tcp(port) => format!("tcp://127.0.0.1:{port}"),
        Endpoint::Uds(path) => format!("ipc://{}", path.display()),
    }
}

struct Peer {
    runtime: Runtime,
    socket: DealerSocket,
}

async fn post(socket: &mut DealerSocket, kind: Kind, len: usize) -> Fallible {
    let body = Bytes::copy_from_slice(body(kind, len));
    Ok(socket.send(ZmqMessage::from(body)).await?)
}

impl Client for Peer {
    fn round_trips(&mut self, count: u64, len: usize, laps: &mut Laps) -> Fallible {
        let socket = &mut self.socket;
        self.runtime.block_on(async {
            laps.resume();
            for _ in 0..count {
                post(socket, Kind::Request, len).await?;
                socket.recv().await?;
                laps.lap();
            }
            Ok(())
        })
    }

    fn one_way(&mut self, count: u64, len: usize) -> Fallible {
        let socket = &mut self.socket;
        self.runtime.block_on(async {
            for _ in 0..count {
                post(socket, Kind::Signal, len).await?;
            }
            post(socket, Kind::Request, len).await?;
            socket.recv().await?;
            Ok(())
        })
    }

    fn window(&mut self, count: u64, len: usize, width: u64) -> Fallible {
        let socket = &mut self.socket;
        self.runtime.block_on(async {
            let mut posted = 0;
            for answered in 0..count {
                while posted < count && posted < answered + width {
                    posted += 1;
                    post(socket, Kind::Request, len).await?;
                }
                // Answers that are there already cost no visit to the runtime.
                match socket.recv().now_or_never() {
                    Some(answer) => answer?,
                    None => socket.recv().await?,
                };
            }
            Ok(())
        })
    }
}
