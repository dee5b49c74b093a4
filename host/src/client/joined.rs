//! A connection on which a small request leaves as one piece. Its head and its body are two
//! buffers, and for the system to gather two costs more than to copy the smaller ones here.
//! (hyper can join them too, but keeps with each idle connection room for its largest body.)

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

#[derive(Debug)]
pub(super) struct Joined(pub(super) TokioIo<TcpStream>);

/// What is copied at most: the events of most platforms with their headers.
const JOINED_MAX: usize = 2 << 10;

impl Write for Joined {
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut piece = [0; JOINED_MAX];
        let mut end = 0;
        for buffer in buffers {
            let Some(room) = piece.get_mut(end..end + buffer.len()) else {
                return Pin::new(&mut self.0).poll_write_vectored(cx, buffers);
            };
            room.copy_from_slice(buffer);
            end += buffer.len();
        }
        self.poll_write(cx, &piece[..end])
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

impl Read for Joined {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, bytes)
    }
}

impl Connection for Joined {
    fn connected(&self) -> Connected {
        self.0.connected()
    }
}
