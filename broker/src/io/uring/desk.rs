//! The translation: ops become entries for the ring, completions become dones. It keeps what
//! both need to know, and enters the kernel for nothing but the file table.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use engine::pool::Slice;
use engine::port::{Done, FileRange, Fill, Op, Time};
use io_uring::types::Fd;
use io_uring::{Submitter, opcode, squeue};

use super::arena::Memory;
use super::conns::{Completion, Conns, FileSend};
use super::listeners::Listeners;
use super::recv_ring::RecvRing;
use super::storage::{Storage, Write};
use super::token::{Kind, Token};
use super::{Endpoints, Settings};
use crate::io::maintenance::{Finished, Job, Maintenance};
use crate::io::sendfile::{self, Senders};

/// The lists of a batch that its ops name parts of.
#[derive(Debug, Clone, Copy)]
pub struct Lists<'a> {
    /// For sends.
    pub slices: &'a [Slice],
    /// For sends out of files.
    pub ranges: &'a [FileRange],
}

/// Everything that completions change.
#[derive(Debug)]
pub struct Desk {
    memory: Memory,
    buffers: RecvRing,
    conns: Conns,
    storage: Storage,
    maintenance: Maintenance,
    /// Started when the first file is sent.
    senders: Option<Senders>,
    /// For them.
    jobs: Vec<sendfile::Job>,
    listeners: Listeners,
    stop: Option<OwnedFd>,
    /// Where the bell's and the stop signal's bytes are read to; boxed for a lasting address.
    bell_value: Box<u64>,
    stop_value: Box<u8>,
    bytes_zeroed: u64,
    /// Maintenance is finished that has not been told yet.
    rung: bool,
}

impl Desk {
    /// A desk with no connection and no file.
    pub fn new(
        memory: Memory,
        buffers: RecvRing,
        settings: Settings,
        endpoints: Endpoints,
    ) -> Desk {
        let Endpoints { listeners, stop, maintenance, lock: _ } = endpoints;
        let size = |count: u32| usize::try_from(count).expect("u32 fits usize");
        Desk {
            memory,
            buffers,
            conns: Conns::new(size(settings.connections_max), settings.ways.receive),
            storage: Storage::new(
                settings.connections_max,
                size(settings.files_max),
                settings.ways.sync,
            ),
            maintenance,
            senders: None,
            jobs: Vec::new(),
            listeners: Listeners::new(listeners),
            stop,
            bell_value: Box::new(0),
            stop_value: Box::new(0),
            bytes_zeroed: 0,
            rung: false,
        }
    }

    /// Bytes of zeros that were written into files.
    pub const fn bytes_zeroed(&self) -> u64 {
        self.bytes_zeroed
    }

    /// When a listener is to be armed again, if one is not armed now.
    pub fn accept_at(&self) -> Option<Time> {
        self.listeners.accept_at()
    }

    /// The kernel has taken all submissions, so it has copied what they pointed to.
    pub const fn submitted(&mut self) {
        self.conns.submitted();
    }

    /// Shows the kernel the receive buffers that were given back.
    pub fn publish_buffers(&self) {
        self.buffers.publish();
    }

    /// Takes no more connections.
    pub fn stop_accepting(&mut self) {
        self.listeners.close();
    }

    /// Leaks all that open operations point to: the kernel did not let go of it.
    pub fn leak_memory(&mut self) {
        self.memory.leak();
        self.buffers.leak();
        std::mem::forget(std::mem::take(&mut self.bell_value));
        std::mem::forget(std::mem::take(&mut self.stop_value));
    }

    /// Tells what other threads have finished for the shard, if they rang.
    pub fn answer_bell(
        &mut self,
        submitter: &Submitter<'_>,
        staged: &mut Vec<squeue::Entry>,
        dones: &mut Vec<Done>,
    ) -> io::Result<()> {
        for job in std::mem::take(&mut self.jobs) {
            self.send_file(job)?;
        }
        if std::mem::take(&mut self.rung) {
            while let Some(finished) = self.senders.as_ref().and_then(Senders::pop) {
                staged.extend(self.conns.file_sent(finished, dones));
            }
            while let Some(finished) = self.maintenance.pop() {
                dones.push(self.finished(submitter, finished)?);
            }
        }
        Ok(())
    }

    /// Arms what stays armed as long as the ring lives.
    pub fn arm_all(&mut self, staged: &mut Vec<squeue::Entry>) {
        self.listeners.arm_all(staged);
        self.arm_bell(staged);
        if let Some(stop) = &self.stop {
            let value = &raw mut *self.stop_value;
            let entry = opcode::Read::new(Fd(stop.as_raw_fd()), value, 1).build();
            staged.push(entry.user_data(Token::sole(Kind::Stop).user_data()));
        }
    }

    fn arm_bell(&mut self, staged: &mut Vec<squeue::Entry>) {
        let value: *mut u8 = (&raw mut *self.bell_value).cast();
        let entry = opcode::Read::new(Fd(self.maintenance.bell().as_raw_fd()), value, 8).build();
        staged.push(entry.user_data(Token::sole(Kind::Bell).user_data()));
    }

    /// Arms listeners again if it is time.
    pub fn retry_accept(&mut self, now: Time, staged: &mut Vec<squeue::Entry>) {
        self.listeners.arm_due(now, staged);
    }

    /// Turns an op into an entry, or does it.
    pub fn stage(
        &mut self,
        submitter: &Submitter<'_>,
        op: Op,
        lists: &Lists<'_>,
        staged: &mut Vec<squeue::Entry>,
    ) -> io::Result<()> {
        let Desk { memory, conns, storage, .. } = self;
        match op {
            Op::Recv { conn } => staged.push(conns.recv(conn)),
            Op::RecvCancel { conn } => staged.extend(conns.recv_cancel(conn)),
            Op::RecvInto { conn, buf, at, len } => {
                staged.push(conns.recv_into(memory, conn, buf, at, len));
            }
            Op::RecvReturn { buf } => self.buffers.give(&buf),
            Op::Send { conn, first, count } => {
                let first = usize::try_from(first).expect("u32 fits usize");
                let count = usize::try_from(count).expect("u32 fits usize");
                staged.push(conns.send(memory, conn, &lists.slices[first..first + count]));
            }
            Op::SendFile { conn, file, first, count } => {
                let first = usize::try_from(first).expect("u32 fits usize");
                let count = usize::try_from(count).expect("u32 fits usize");
                let ranges = lists.ranges[first..first + count].to_vec();
                match conns.send_file(conn, storage.descriptor(file), ranges) {
                    FileSend::Install(entry) => staged.push(entry),
                    FileSend::Job(job) => self.send_file(job)?,
                }
            }
            Op::Close { conn } => staged.push(conns.close(conn)),
            Op::Write { file, tag, slice, position, sync, extent } => {
                let write = Write { file, tag, slice, position, sync, extent };
                staged.push(storage.write(memory, write));
            }
            Op::Read { file, tag, buf, position, len } => {
                staged.push(storage.read(memory, file, tag, buf, position, len));
            }
            Op::Flush { file, tag } => staged.push(storage.flush(file, tag)),
            Op::FileOpen { file, path, open } => {
                self.maintenance.push(Job::Open { file, path, open });
            }
            Op::FileExtend { file, from, to, fill } => {
                let fd = storage.descriptor(file);
                self.maintenance.push(Job::Extend { file, fd, from, to, fill });
            }
            Op::FileClose { file } => {
                let fd = storage.remove(submitter, file)?;
                self.maintenance.push(Job::Close { fd });
            }
            Op::SpaceAsk => self.maintenance.push(Job::Space),
            Op::FilesDelete { tag, paths } => self.maintenance.push(Job::Delete { tag, paths }),
        }
        Ok(())
    }

    fn send_file(&mut self, job: sendfile::Job) -> io::Result<()> {
        let senders = match self.senders.take() {
            Some(senders) => senders,
            None => Senders::start(&self.maintenance.shared_bell())?,
        };
        senders.push(job);
        self.senders = Some(senders);
        Ok(())
    }

    /// Turns a completion into dones.
    pub fn completed(
        &mut self,
        completion: Completion,
        staged: &mut Vec<squeue::Entry>,
        dones: &mut Vec<Done>,
    ) {
        match completion.token.kind {
            Kind::Recv | Kind::RecvInto | Kind::Send | Kind::Close => {
                let next = self.conns.completed(completion, &mut self.buffers, dones);
                staged.extend(next);
                if completion.token.kind == Kind::Close {
                    self.listeners.arm_all(staged);
                }
            }
            Kind::Install => {
                let (job, next) = self.conns.installed(completion, dones);
                staged.extend(next);
                self.jobs.extend(job);
            }
            Kind::Storage => staged.extend(self.storage.completed(completion, dones)),
            Kind::Accept => {
                if let Ok(index) = completion.count() {
                    self.conns.accepted(index, dones);
                }
                self.listeners.completed(completion, staged);
            }
            Kind::Bell => {
                self.rung = true;
                self.arm_bell(staged);
            }
            Kind::Stop => {
                if completion.result > 0 {
                    dones.push(Done::Stop);
                }
            }
            Kind::Cancel => {}
            Kind::Doorbell | Kind::Rung => unreachable!("the ring keeps these"),
        }
    }

    /// Turns what the maintenance thread did into a done.
    fn finished(&mut self, submitter: &Submitter<'_>, finished: Finished) -> io::Result<Done> {
        Ok(match finished {
            Finished::Opened { file, result } => {
                let result = match result {
                    Ok(opened) => {
                        self.storage.install(submitter, file, opened.fd)?;
                        Ok(opened.bytes)
                    }
                    Err(fault) => Err(fault),
                };
                Done::FileOpened { file, result }
            }
            Finished::Extended { file, from, to, fill, result } => {
                if fill == Fill::Zero && result.is_ok() {
                    self.bytes_zeroed += to.saturating_sub(from);
                }
                Done::FileExtended { file, to, fill, result }
            }
            Finished::Space { free } => Done::SpaceTold { free },
            Finished::Deleted { tag, result } => Done::FilesDeleted { tag, result },
        })
    }
}
