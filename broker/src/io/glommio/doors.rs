//! The tasks that live as long as the backend: they await the listener, the maintenance thread's
//! bell, and the request to stop.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::net::{TcpListener, TcpStream as StdStream};
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use engine::port::{Done, Fill};
use futures_io::AsyncRead;
use glommio::net::TcpStream;
use glommio::timer::Timer;
use glommio_socket2::Socket;
use rustix::io::Errno;
use rustix::net::SocketFlags;

use super::conns;
use super::storage::File;
use super::{Books, World};
use crate::io::maintenance::Finished;

/// After an accept failed for want of something, the next is tried this much later.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Waits until a descriptor is readable. glommio has no such call, but its streams begin by
/// polling their descriptor; the receive that follows takes a byte from a stream and fails
/// otherwise, which tells just as much.
async fn readable(descriptor: &impl AsFd) -> io::Result<usize> {
    let copy = descriptor.as_fd().try_clone_to_owned()?;
    let mut stream = TcpStream::from(Socket::from(StdStream::from(copy)));
    poll_fn(|cx| Pin::new(&mut stream).poll_read(cx, &mut [0])).await
}

/// Welcomes connections for ever.
pub async fn accept(world: Rc<World>, listener: TcpListener) {
    loop {
        let mut lacking = world.conns().borrow().is_full();
        if !lacking {
            // Only an error that is not the receive's own makes this come back too early; then
            // the accept says what is wrong.
            let _ = readable(&listener).await;
            lacking = accept_all(&world, &listener).is_err();
        }
        if lacking {
            Timer::new(ACCEPT_RETRY).await;
        }
    }
}

/// Accepts until nobody waits any more.
fn accept_all(world: &Rc<World>, listener: &TcpListener) -> Result<(), Errno> {
    while !world.conns().borrow().is_full() {
        match rustix::net::accept_with(listener, SocketFlags::CLOEXEC) {
            Ok(socket) => conns::welcome(world, StdStream::from(socket)),
            Err(Errno::AGAIN) => return Ok(()),
            // It went away while it waited.
            Err(Errno::CONNABORTED | Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Says once that the process was asked to stop.
pub async fn stop(world: Rc<World>, signal: OwnedFd) {
    if readable(&signal).await.is_ok_and(|count| count > 0) {
        world.tell(Done::Stop);
    }
}

/// Tells what the maintenance thread finishes, for ever.
pub async fn bell(world: Rc<World>, books: Rc<RefCell<Books>>, bell: OwnedFd) {
    loop {
        // An eventfd is no socket, so this ends in an error when the bell has rung.
        let _ = readable(&bell).await;
        if rustix::io::read(&bell, &mut [0; 8]).is_err() {
            Timer::new(ACCEPT_RETRY).await;
        }
        loop {
            let finished = books.borrow_mut().maintenance.pop();
            let Some(finished) = finished else { break };
            tell(&world, &books, finished);
        }
    }
}

fn tell(world: &Rc<World>, books: &Rc<RefCell<Books>>, finished: Finished) {
    match finished {
        Finished::Opened { file, result } => {
            let (world, books) = (Rc::clone(world), Rc::clone(books));
            world.begin(0);
            glommio::spawn_local(async move {
                let opened = match result {
                    Ok(opened) => {
                        let bytes = opened.bytes;
                        File::open(opened).await.map(|opened| (opened, bytes))
                    }
                    Err(fault) => Err(fault),
                };
                let result = opened.map(|(opened, bytes)| {
                    books.borrow_mut().storage.install(file, opened);
                    bytes
                });
                world.end(0, Done::FileOpened { file, result });
            })
            .detach();
        }
        Finished::Extended { file, from, to, fill, result } => {
            if fill == Fill::Zero && result.is_ok() {
                books.borrow_mut().bytes_zeroed += to.saturating_sub(from);
            }
            world.tell(Done::FileExtended { file, to, fill, result });
        }
        Finished::Space { free } => world.tell(Done::SpaceTold { free }),
        Finished::Deleted { tag, result } => world.tell(Done::FilesDeleted { tag, result }),
    }
}
