//! tokio with `Framed` and `LengthDelimitedCodec` of tokio-util: what most programs would write.
//!
//! A runtime on the current thread, which is the fastest for one connection. Messages are fed, and
//! flushed when there is nothing else to do, as the documentation of `SinkExt::feed` recommends; the
//! buffers are 64 KiB, so that as much is gathered as in tofu. The 12 bytes before the body make the
//! frame, with its 4 bytes of length, as long as tofu's.

use bytes::{Bytes, BytesMut};
use futures_util::{FutureExt, SinkExt, StreamExt};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    runtime::{Builder, Runtime},
};
use tokio_util::codec::{Framed, LengthDelimitedCodec};

use super::{
    Client, Contender, Endpoint, Fallible, Laps,
    messenger::{Kind, body, kind_of},
};

const HEADER_REST: [u8; 12] = [0; 12];
const BUFFER: usize = 64 * 1024;

/// Framed, on the current thread.
#[derive(Debug)]
pub(super) struct Tokio;

trait Socket: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Socket for T {}

type Frames = Framed<Box<dyn Socket>, LengthDelimitedCodec>;

impl Contender for Tokio {
    fn serve(&self, endpoint: &Endpoint, ready: &mut dyn FnMut(&Endpoint)) -> Fallible {
        runtime()?.block_on(async {
            let socket: Box<dyn Socket> = match endpoint {
                Endpoint::Tcp(port) => {
                    let listener = TcpListener::bind(("127.0.0.1", *port)).await?;
                    ready(&Endpoint::Tcp(listener.local_addr()?.port()));
                    let (stream, _) = listener.accept().await?;
                    stream.set_nodelay(true)?;
                    Box::new(stream)
                }
                Endpoint::Uds(path) => {
                    let listener = UnixListener::bind(path)?;
                    ready(endpoint);
                    Box::new(listener.accept().await?.0)
                }
            };
            let mut frames = framed(socket);
            while let Some(frame) = next(&mut frames).await? {
                let (_, body) = frame.split_at(HEADER_REST.len());
                if kind_of(body)? == Kind::Request {
                    frames.feed(frame).await?;
                }
            }
            Ok(())
        })
    }

    fn connect(&self, endpoint: &Endpoint) -> Fallible<Box<dyn Client>> {
        let runtime = runtime()?;
        let frames = runtime.block_on(async {
            let socket: Box<dyn Socket> = match endpoint {
                Endpoint::Tcp(port) => {
                    let stream = TcpStream::connect(("127.0.0.1", *port)).await?;
                    stream.set_nodelay(true)?;
                    Box::new(stream)
                }
                Endpoint::Uds(path) => Box::new(UnixStream::connect(path).await?),
            };
            Fallible::Ok(framed(socket))
        })?;
        Ok(Box::new(Peer {
            runtime,
            frames,
            memory: BytesMut::new(),
        }))
    }
}

fn runtime() -> Fallible<Runtime> {
    Ok(Builder::new_current_thread().enable_io().build()?)
}

fn framed(socket: Box<dyn Socket>) -> Frames {
    let mut frames = Framed::with_capacity(socket, LengthDelimitedCodec::new(), BUFFER);
    frames.set_backpressure_boundary(BUFFER);
    frames
}

/// The next frame; what has been fed is flushed before that is waited for.
async fn next(frames: &mut Frames) -> Fallible<Option<Bytes>> {
    let frame = if let Some(frame) = frames.next().now_or_never() {
        frame
    } else {
        SinkExt::<Bytes>::flush(frames).await?;
        frames.next().await
    };
    Ok(frame.transpose()?.map(BytesMut::freeze))
}

/// A connected client.
struct Peer {
    runtime: Runtime,
    frames: Frames,
    memory: BytesMut,
}

/// A frame in memory that many frames share, which saves an allocation for each.
fn frame(memory: &mut BytesMut, kind: Kind, len: usize) -> Bytes {
    if memory.capacity() < HEADER_REST.len() + len {
        memory.reserve(BUFFER.max(HEADER_REST.len() + len));
    }
    memory.extend_from_slice(&HEADER_REST);
    memory.extend_from_slice(body(kind, len));
    memory.split().freeze()
}

async fn answer(frames: &mut Frames) -> Fallible {
    next(frames).await?.ok_or("the server left")?;
    Ok(())
}

impl Client for Peer {
    fn round_trips(&mut self, count: u64, len: usize, laps: &mut Laps) -> Fallible {
        self.runtime.block_on(async {
            laps.resume();
            for _ in 0..count {
                let request = frame(&mut self.memory, Kind::Request, len);
                self.frames.send(request).await?;
                answer(&mut self.frames).await?;
                laps.lap();
            }
            Ok(())
        })
    }

    fn one_way(&mut self, count: u64, len: usize) -> Fallible {
        self.runtime.block_on(async {
            for _ in 0..count {
                let signal = frame(&mut self.memory, Kind::Signal, len);
                self.frames.feed(signal).await?;
            }
            let request = frame(&mut self.memory, Kind::Request, len);
            self.frames.send(request).await?;
            answer(&mut self.frames).await
        })
    }

    fn window(&mut self, count: u64, len: usize, width: u64) -> Fallible {
        self.runtime.block_on(async {
            let mut posted = 0;
            for answered in 0..count {
                while posted < count && posted < answered + width {
                    posted += 1;
                    let request = frame(&mut self.memory, Kind::Request, len);
                    self.frames.feed(request).await?;
                }
                answer(&mut self.frames).await?;
            }
            Ok(())
        })
    }
}
