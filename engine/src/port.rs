//! The engine's whole view of the world: two closed enums. An [`Op`] says what the engine wants
//! done, a [`Done`] says what happened. Backends translate and decide nothing.
//!
//! Contract, which every backend passes the same suite for:
//! - Each `Op` that names a `Done` gets exactly one, except `Recv`, which gets any number of
//!   `Received` and then one `RecvEnded`. Dones may come in any order.
//! - A backend reads the bytes of a [`Slice`] until the op's `Done`; the engine keeps them
//!   allocated and unchanged. A [`FillBuf`] is the backend's alone until it comes back.
//! - After `Close` every open op of the connection still ends with its `Done` (mostly with an
//!   error); then `Closed` comes, last, and the connection's number may be used again.
//! - A `Write` with [`Sync::Durable`] is on stable storage when it is done. A `Flush` covers the
//!   writes to its file that were done before it was submitted. Short writes are reported as
//!   such, never continued.

use crate::layout::FilePath;
use crate::pool::{FillBuf, Slice};

/// Monotonic time in ns since an arbitrary start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time(pub u64);

impl Time {
    /// This time plus `ns` nanoseconds.
    #[must_use]
    pub const fn plus_ns(self, ns: u64) -> Time {
        Time(self.0.saturating_add(ns))
    }

    /// Nanoseconds since `earlier`, 0 if it is later.
    pub const fn since(self, earlier: Time) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Both clocks as one turn sees them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// Monotonic.
    pub time: Time,
    /// Wall clock in ns since 1970.
    pub wall_ns: u64,
}

/// A connection's number; small, chosen by the backend, reused after [`Done::Closed`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u32);

/// A file's number; small, chosen by the engine, reused after [`Op::FileClose`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileSlot(pub u32);

/// The engine's name for an op, returned in its `Done`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(pub u64);

/// One of the provided receive buffers.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct RecvBuf(pub u16);

/// Why the world did not do as asked: an errno, positive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fault(pub i32);

impl Fault {
    /// No space left on the device.
    pub const ENOSPC: Fault = Fault(28);
    /// The file system is read-only.
    pub const EROFS: Fault = Fault(30);
    /// Input or output failed.
    pub const EIO: Fault = Fault(5);
    /// Not like that, or not there.
    pub const EINVAL: Fault = Fault(22);
    /// The kernel cannot do this.
    pub const ENOSYS: Fault = Fault(38);
    /// No such file.
    pub const ENOENT: Fault = Fault(2);
    /// The op was cancelled.
    pub const ECANCELED: Fault = Fault(125);
    /// The peer reset the connection.
    pub const ECONNRESET: Fault = Fault(104);
}

/// What a completed write promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Sync {
    /// The device has it, perhaps in a volatile cache.
    Written,
    /// It is on stable storage.
    Durable,
}

/// Whether a write may block its submitter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Extent {
    /// Its blocks have been written before: submit inline.
    Written,
    /// They may be unwritten or beyond the end: the file system may start a transaction, so a
    /// worker submits it.
    Fresh,
}

/// What to do to the space of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fill {
    /// Allocate blocks, unwritten.
    Reserve,
    /// Allocate blocks and write zeros over them, durably.
    Zero,
}

/// How to open a file.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Open {
    /// It exists. On a file system that is read-only it is opened for reading alone: what is to
    /// be written to it fails with [`Fault::EROFS`].
    Existing,
    /// It exists, and is read through the page cache: for [`Op::SendFile`], and for reads. It is
    /// never written under this number.
    Buffered,
    /// Create it, empty, with its directories; durable (directory entries too) when done.
    Create,
    /// Rename `from`, an existing spare file, to its path; durable when done.
    Adopt {
        /// The spare.
        from: FilePath,
    },
}

/// What the engine wants done.
#[derive(Debug, Hash)]
pub enum Op {
    /// Receive into provided buffers until cancelled or ended (multishot).
    /// Ends with [`Done::RecvEnded`].
    Recv {
        /// Connection.
        conn: ConnId,
    },
    /// Ask a running `Recv` or `RecvInto` of the connection to end. Has no `Done` of its own.
    RecvCancel {
        /// Connection.
        conn: ConnId,
    },
    /// Receive at most `len` bytes into `buf` at byte `at`. Ends with [`Done::Filled`].
    RecvInto {
        /// Connection.
        conn: ConnId,
        /// Where to.
        buf: FillBuf,
        /// First byte within `buf`.
        at: u32,
        /// Most bytes to receive.
        len: u32,
    },
    /// Give a provided buffer back. Has no `Done`.
    RecvReturn {
        /// The buffer.
        buf: RecvBuf,
    },
    /// Send the slices `first..first + count` of the batch's slice list, in order. May send less
    /// than all. Ends with [`Done::Sent`]. At most one is open per connection.
    Send {
        /// Connection.
        conn: ConnId,
        /// Index of the first slice in [`OpBatch::slices`].
        first: u32,
        /// Number of slices, at most [`SEND_SLICES_MAX`].
        count: u32,
    },
    /// Send the ranges `first..first + count` of the batch's range list, in order, out of a file
    /// that was opened with [`Open::Buffered`], off the shard and without a copy. May send less
    /// than all. It is the connection's one open send and ends with [`Done::Sent`]; with
    /// [`Fault::EIO`] if the file ends before the first byte, [`Fault::EINVAL`] or
    /// [`Fault::ENOSYS`] where there is no such thing.
    SendFile {
        /// Connection; no link.
        conn: ConnId,
        /// File.
        file: FileSlot,
        /// Index of the first range in [`OpBatch::ranges`].
        first: u32,
        /// Number of ranges, at most [`SEND_RANGES_MAX`].
        count: u32,
    },
    /// Close the connection. Ends with [`Done::Closed`].
    Close {
        /// Connection.
        conn: ConnId,
    },
    /// Write one slice, aligned in memory, length and position. Ends with [`Done::Wrote`].
    Write {
        /// File.
        file: FileSlot,
        /// Name of this op.
        tag: Tag,
        /// What to write.
        slice: Slice,
        /// Where in the file, in bytes.
        position: u64,
        /// What its completion shall promise.
        sync: Sync,
        /// What lies there now.
        extent: Extent,
    },
    /// Read `len` bytes into `buf`, all aligned. Ends with [`Done::Read`].
    Read {
        /// File.
        file: FileSlot,
        /// Name of this op.
        tag: Tag,
        /// Where to; from its first byte.
        buf: FillBuf,
        /// Where in the file, in bytes.
        position: u64,
        /// How many bytes.
        len: u32,
    },
    /// Make earlier completed writes to the file durable. Ends with [`Done::Flushed`].
    Flush {
        /// File.
        file: FileSlot,
        /// Name of this op.
        tag: Tag,
    },
    /// Open a file under this number. Ends with [`Done::FileOpened`].
    FileOpen {
        /// Number to use from now on.
        file: FileSlot,
        /// Which file.
        path: FilePath,
        /// How.
        open: Open,
    },
    /// Allocate `from..to` of an open file, off the shard. Ends with [`Done::FileExtended`].
    FileExtend {
        /// File.
        file: FileSlot,
        /// First byte.
        from: u64,
        /// Byte behind the last.
        to: u64,
        /// How.
        fill: Fill,
    },
    /// Close the file; no op on it is open. Has no `Done`; the number is free at once.
    FileClose {
        /// File.
        file: FileSlot,
    },
    /// Ask how much space is free, once what was asked before is done. Ends with
    /// [`Done::SpaceTold`].
    SpaceAsk,
    /// Delete files, off the shard: every file whose path is in the list. Ends with
    /// [`Done::FilesDeleted`].
    FilesDelete {
        /// Name of this op.
        tag: Tag,
        /// Which files.
        paths: Vec<FilePath>,
    },
}

/// Most slices of one send.
pub const SEND_SLICES_MAX: usize = 16;
/// Most ranges of one send out of a file.
pub const SEND_RANGES_MAX: usize = 16;

/// Bytes of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileRange {
    /// First byte.
    pub position: u64,
    /// How many, at least 1.
    pub len: u32,
}

/// Which end of a link a shard has. Between each two shards there are two links: one for the
/// requests of either.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LinkEnd {
    /// This shard asks, the other one answers.
    Asking,
    /// The other shard asks, this one answers.
    Answering,
}

/// How a `Recv` ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RecvEnd {
    /// The peer closed its sending side.
    Eof,
    /// The provided buffers ran out; arm it again when some are back.
    NoBuffers,
    /// It was cancelled, or the backend ended it for reasons of its own: arm it again at will.
    Stopped,
    /// The connection failed.
    Failed(Fault),
}

/// What happened.
#[derive(Debug, Hash)]
pub enum Done {
    /// A connection was accepted. (Paid for by the listener, which the backend keeps armed.)
    Accepted {
        /// Its number.
        conn: ConnId,
    },
    /// There is a link to another shard: a stream of bytes in both directions that behaves as a
    /// connection does, except that it is never closed and takes only `RecvInto`, `RecvCancel`
    /// and `Send`. Each link of a shard is told once, before anything else happens on it.
    Linked {
        /// Its number; no connection ever has it.
        conn: ConnId,
        /// The shard at the other end.
        shard: u16,
        /// Which end this is.
        end: LinkEnd,
    },
    /// Bytes arrived in a provided buffer, which must be returned with [`Op::RecvReturn`].
    Received {
        /// Connection.
        conn: ConnId,
        /// Where they are.
        buf: RecvBuf,
        /// How many, at least 1.
        len: u32,
    },
    /// A `Recv` ended.
    RecvEnded {
        /// Connection.
        conn: ConnId,
        /// How.
        end: RecvEnd,
    },
    /// A `RecvInto` ended; `Ok(0)` is the end of the stream.
    Filled {
        /// Connection.
        conn: ConnId,
        /// The buffer, returned.
        buf: FillBuf,
        /// Bytes received.
        result: Result<u32, Fault>,
    },
    /// A `Send` ended.
    Sent {
        /// Connection.
        conn: ConnId,
        /// Bytes sent.
        result: Result<u32, Fault>,
    },
    /// A connection is gone.
    Closed {
        /// Connection.
        conn: ConnId,
    },
    /// A `Write` ended.
    Wrote {
        /// Its name.
        tag: Tag,
        /// Bytes written.
        result: Result<u32, Fault>,
    },
    /// A `Read` ended.
    Read {
        /// Its name.
        tag: Tag,
        /// The buffer, returned.
        buf: FillBuf,
        /// Bytes read; fewer than asked at the end of the file.
        result: Result<u32, Fault>,
    },
    /// A `Flush` ended.
    Flushed {
        /// Its name.
        tag: Tag,
        /// Whether it held.
        result: Result<(), Fault>,
    },
    /// A `FileOpen` ended; on success with the file's length in bytes.
    FileOpened {
        /// File.
        file: FileSlot,
        /// Length, or why not.
        result: Result<u64, Fault>,
    },
    /// A `FileExtend` ended.
    FileExtended {
        /// File.
        file: FileSlot,
        /// As asked.
        to: u64,
        /// As asked.
        fill: Fill,
        /// Whether it held.
        result: Result<(), Fault>,
    },
    /// A `SpaceAsk` ended.
    SpaceTold {
        /// Bytes that files may still take.
        free: Result<u64, Fault>,
    },
    /// A `FilesDelete` ended; files that did not exist count as deleted.
    FilesDeleted {
        /// Its name.
        tag: Tag,
        /// Whether it held.
        result: Result<(), Fault>,
    },
    /// The process was asked to stop: finish what is in flight, take nothing new.
    Stop,
}

/// What one `decide` wants done, in order. Reused from turn to turn.
#[derive(Debug, Default)]
pub struct OpBatch {
    /// The ops.
    pub ops: Vec<Op>,
    /// Slices of the sends among them.
    pub slices: Vec<Slice>,
    /// Ranges of the sends out of files.
    pub ranges: Vec<FileRange>,
    /// What people should know; the process logs it, rate-limited.
    pub notices: Vec<Notice>,
}

impl OpBatch {
    /// Empties it, keeping the memory.
    pub fn clear(&mut self) {
        self.ops.clear();
        self.slices.clear();
        self.ranges.clear();
        self.notices.clear();
    }
}

/// Something for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// How bad it is.
    pub level: Level,
    /// Which connection it is about, if one.
    pub conn: Option<ConnId>,
    /// The sentence.
    pub text: String,
}

/// How bad a notice is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Good to know.
    Info,
    /// A peer or setting misbehaves; the broker goes on.
    Warn,
    /// Something is lost or refused until a person acts.
    Error,
}

/// A file found in the data directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileEntry {
    /// Which one.
    pub path: FilePath,
    /// Its length.
    pub bytes: u64,
}

/// The disk as recovery sees it, before any connection exists: plain calls, one at a time.
/// Positions, lengths and buffers are aligned to [`crate::frame::BLOCK_BYTES`].
pub trait Disk {
    /// Makes all that is there durable: what a process that was killed had written may be in a
    /// cache only.
    fn settle(&mut self) -> Result<(), Fault>;
    /// Every file of the data directory that [`FilePath`] can name.
    fn list(&mut self) -> Result<Vec<FileEntry>, Fault>;
    /// Reads from `position`; fewer bytes only at the end of the file.
    fn read(&mut self, path: &FilePath, position: u64, into: &mut [u8]) -> Result<usize, Fault>;
    /// Writes all of `bytes`; durable when it returns.
    fn write(&mut self, path: &FilePath, position: u64, bytes: &[u8]) -> Result<(), Fault>;
    /// Creates a file (and its directories), or empties it, and writes `bytes` zeros; all of it,
    /// directory entries too, is durable when it returns.
    fn create(&mut self, path: &FilePath, bytes: u64) -> Result<(), Fault>;
    /// Deletes a file; durable when it returns.
    fn delete(&mut self, path: &FilePath) -> Result<(), Fault>;
}
