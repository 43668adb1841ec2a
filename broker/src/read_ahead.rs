//! Reads of recovery that go on where the last one ended come from threads that read ahead, so
//! that the device and the checking of what was read work at the same time.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use rustix::io::Errno;

use crate::blocks::{Blocks, HUGE_PAGE_BYTES};
use crate::directory;

/// Bytes that are read at once: a huge page. A shorter read is no part of a long walk.
pub const CHUNK_BYTES: usize = HUGE_PAGE_BYTES;
/// Threads that read: two reads in flight keep the device busy while a third is looked at.
const READERS: usize = 2;
/// Chunks asked for beyond what somebody wants.
const CHUNKS_AHEAD: usize = 3;
/// Chunks that may be held: a read may begin within one and end within another.
const CHUNKS_MAX: usize = 4 + CHUNKS_AHEAD;

/// One file that is read from somewhere on to its end.
#[derive(Debug, Default)]
pub struct ReadAhead {
    readers: Vec<Reader>,
    file: Option<Arc<OwnedFd>>,
    /// What has been read, in order; the first of them is number `first`.
    chunks: VecDeque<Chunk>,
    first: u64,
    /// Chunks that readers have not given back.
    open: u64,
    free: Vec<Blocks>,
}

/// A piece of the file.
#[derive(Debug)]
struct Chunk {
    blocks: Blocks,
    got: Result<usize, Errno>,
}

#[derive(Debug)]
struct Job {
    file: Arc<OwnedFd>,
    number: u64,
    blocks: Blocks,
}

/// A thread that reads what it is asked to, in order. It ends with its sender.
#[derive(Debug)]
struct Reader {
    jobs: SyncSender<Job>,
    chunks: Receiver<Chunk>,
}

impl Reader {
    fn start() -> std::io::Result<Reader> {
        let (jobs, asked) = sync_channel::<Job>(CHUNKS_MAX);
        let (done, chunks) = sync_channel(CHUNKS_MAX);
        thread::Builder::new().name("read-ahead".to_owned()).spawn(move || {
            for Job { file, number, mut blocks } in asked {
                let got = directory::read_all(&*file, blocks.bytes_mut(), position_of(number));
                if done.send(Chunk { blocks, got }).is_err() {
                    return;
                }
            }
        })?;
        Ok(Reader { jobs, chunks })
    }
}

impl ReadAhead {
    /// Forgets what was read: the file may have changed, or is another one.
    pub fn forget(&mut self) {
        while self.open > 0 {
            self.receive();
        }
        self.free.extend(self.chunks.drain(..).map(|chunk| chunk.blocks));
        self.file = None;
    }

    /// Reads from `position` into all of `into`; fewer bytes only at the end of the file.
    ///
    /// # Errors
    /// The errno of the call that failed, whichever chunk it was for.
    pub fn read(
        &mut self,
        file: &Arc<OwnedFd>,
        into: &mut [u8],
        position: u64,
    ) -> Result<usize, Errno> {
        if !self.is_ready() {
            return directory::read_all(&**file, into, position);
        }
        let (from, end) = (position / length(CHUNK_BYTES), position + length(into.len()));
        let to = end.div_ceil(length(CHUNK_BYTES));
        let is_same = self.file.as_ref().is_some_and(|known| Arc::ptr_eq(known, file));
        if !is_same || from < self.first || from > self.asked() {
            self.forget();
            self.file = Some(Arc::clone(file));
            self.first = from;
        }
        while self.first < from {
            if self.chunks.is_empty() {
                self.receive();
            }
            self.free.extend(self.chunks.pop_front().map(|chunk| chunk.blocks));
            self.first += 1;
        }
        while self.asked() < to + length(CHUNKS_AHEAD) {
            self.ask(file);
        }
        let filled = self.fill(into, position);
        if filled.is_err() {
            // Whoever tries again asks the device again.
            self.forget();
        }
        filled
    }

    /// Copies what has been asked for.
    fn fill(&mut self, into: &mut [u8], position: u64) -> Result<usize, Errno> {
        let mut filled = 0;
        while filled < into.len() {
            let at = position + length(filled);
            let index = usize_of(at / length(CHUNK_BYTES) - self.first);
            while self.chunks.len() <= index {
                self.receive();
            }
            let chunk = &self.chunks[index];
            let got = &chunk.blocks.bytes()[..chunk.got?];
            let rest = got.get(usize_of(at % length(CHUNK_BYTES))..).unwrap_or_default();
            let count = rest.len().min(into.len() - filled);
            into[filled..filled + count].copy_from_slice(&rest[..count]);
            filled += count;
            if got.len() < CHUNK_BYTES {
                break;
            }
        }
        Ok(filled)
    }

    /// Whether there are readers. A machine without a thread to spare reads one after the other.
    fn is_ready(&mut self) -> bool {
        while self.readers.len() < READERS {
            let Ok(reader) = Reader::start() else {
                self.readers.clear();
                return false;
            };
            self.readers.push(reader);
        }
        true
    }

    /// Number of the chunk that will be asked for next.
    fn asked(&self) -> u64 {
        self.first + length(self.chunks.len()) + self.open
    }

    /// The reader of a chunk: they take turns.
    fn reader(&self, number: u64) -> &Reader {
        &self.readers[usize_of(number % length(READERS))]
    }

    fn ask(&mut self, file: &Arc<OwnedFd>) {
        let blocks = self.free.pop().unwrap_or_else(|| Blocks::zeroed(CHUNK_BYTES));
        let number = self.asked();
        let job = Job { file: Arc::clone(file), number, blocks };
        self.reader(number).jobs.send(job).expect("readers live as long as their senders");
        self.open += 1;
    }

    fn receive(&mut self) {
        let number = self.first + length(self.chunks.len());
        let chunk = self.reader(number).chunks.recv();
        self.chunks.push_back(chunk.expect("readers give back every chunk"));
        self.open -= 1;
    }
}

fn position_of(number: u64) -> u64 {
    number * length(CHUNK_BYTES)
}

fn length(len: usize) -> u64 {
    u64::try_from(len).expect("usize fits u64")
}

fn usize_of(len: u64) -> usize {
    usize::try_from(len).expect("a place in memory")
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE_BYTES: usize = 9 * CHUNK_BYTES + 4096 + 100;

    fn pattern() -> Vec<u8> {
        (0..FILE_BYTES).map(|at| u8::try_from(at / 4096 % 251).expect("small")).collect()
    }

    #[test]
    fn it_reads_what_is_there_wherever_and_in_whatever_order() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let place = root.path().join("file");
        let bytes = pattern();
        std::fs::write(&place, &bytes).expect("written");
        let file = Arc::new(OwnedFd::from(std::fs::File::open(&place).expect("opened")));
        let mut ahead = ReadAhead::default();
        let mut into = vec![0; 2 * CHUNK_BYTES];
        // As a walk does, with steps back to frames that were cut; then somewhere else.
        let steps =
            [0, 3_801_088, 7_995_392, 10_000_384, 16_777_216, 18_874_368, 0, 4096, 18_001_920];
        for position in steps {
            let got = ahead.read(&file, &mut into, length(position)).expect("read");
            let want = &bytes[position..bytes.len().min(position + into.len())];
            assert_eq!(got, want.len(), "at {position}");
            assert!(into[..got] == *want, "at {position}");
        }
        assert_eq!(ahead.read(&file, &mut into, 20 * length(CHUNK_BYTES)), Ok(0));
        let held = ahead.chunks.len() + usize_of(ahead.open) + ahead.free.len();
        assert!(held <= CHUNKS_MAX, "{held} chunks");
    }

    #[test]
    fn what_was_forgotten_is_read_again() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let place = root.path().join("file");
        std::fs::write(&place, pattern()).expect("written");
        let file = Arc::new(OwnedFd::from(std::fs::File::open(&place).expect("opened")));
        let mut ahead = ReadAhead::default();
        let mut into = vec![0; CHUNK_BYTES];
        ahead.read(&file, &mut into, 0).expect("read");
        std::fs::write(&place, vec![7; FILE_BYTES]).expect("written");
        ahead.forget();
        ahead.read(&file, &mut into, length(CHUNK_BYTES)).expect("read");
        assert!(into.iter().all(|&byte| byte == 7));
    }
}
