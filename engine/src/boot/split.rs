//! The last step: what recovery found becomes shards, each with memory, a journal and the
//! partitions that placement gives it.

use super::queues::FoundStore;
use super::{Boot, BootError, new_pool, new_store, public_seed};
use crate::catalog::{Catalog, Owner, Topic};
use crate::layout::FilePath;
use crate::log::journal::{FileState, JournalFile};
use crate::log::partition::{Partition, PartitionId};
use crate::log::recycle::Spares;
use crate::log::slab::Slab;
use crate::log::start_file::START_FILE_BYTES;
use crate::log::start_spares::StartSpares;
use crate::log::store::Store;
use crate::placement::{CATALOG_SHARD, owner, store_owner};
use crate::pool::{Arenas, Pool};
use crate::port::{Disk, Fault, FileSlot, Op, OpBatch, Open};
use crate::queue::queues::{QueueStore, Queues};
use crate::settings::{START_SPARES, Settings};
use crate::shard::Shard;
use crate::units::u64_of;

/// One shard's part while things are being divided.
struct Part {
    pool: Pool,
    store: Store,
    catalog: Catalog,
    catalog_stream: Option<PartitionId>,
    queues: Queues,
}

impl<D: Disk> Boot<'_, D> {
    /// Divides what was found. Every shard knows all topics, and holds the partitions it owns.
    pub(super) fn split(
        mut self,
        arenas: &mut Arenas,
        file_sequence: u64,
        seed: u128,
    ) -> Result<Vec<Shard>, BootError> {
        let spares = self.spares()?;
        let start_spares = self.start_spares()?;
        let Boot { store, catalog, superblock, mut pool, queue_stores, .. } = self;
        let mut partitions = store.partitions;
        // All of it is stored: memory begins empty. The first shard goes on with recovery's.
        let ids: Vec<u32> = partitions.iter().map(|(id, _)| id).collect();
        for id in ids {
            let runs = &mut partitions.get_mut(id).expect("just listed").runs;
            runs.drain(..).for_each(|run| pool.release(run.buf));
        }
        assert_eq!(pool.live_buffers(), 0, "recovery gives back what it took");
        let mut first_pool = Some(pool);
        let mut parts = Vec::new();
        for shard in 0..store.settings.shards {
            let settings = of_shard(&store.settings, shard);
            let mut store = new_store(&settings, &superblock);
            store.spares = Spares::of_shard(&spares, &settings);
            store.starts.spares = StartSpares::of_shard(&start_spares, &settings);
            parts.push(Part {
                pool: first_pool.take().unwrap_or_else(|| new_pool(arenas, &settings)),
                store,
                catalog: Catalog::default(),
                catalog_stream: None,
                queues: Queues::default(),
            });
        }
        let stream = partitions.remove(0).expect("recovery made it");
        let part = &mut parts[usize::from(CATALOG_SHARD)];
        let stream = part.store.add_partition(stream);
        part.store.prove_again(stream);
        part.catalog_stream = Some(stream);
        for (id, topic) in catalog.topics {
            deal(&mut parts, &mut partitions, id, &topic);
        }
        for part in &mut parts {
            part.catalog.queues.clone_from(&catalog.queues);
            part.catalog.queue_names.clone_from(&catalog.queue_names);
        }
        for (number, found) in queue_stores {
            deal_store(&mut parts, &mut partitions, number, found);
        }
        assert!(partitions.is_empty(), "every partition belongs to a topic");
        let drained = superblock.drained_lsn.get();
        let mut shards = Vec::new();
        for (number, mut part) in (0u128..).zip(parts) {
            fill_journal(&mut part, file_sequence, drained)?;
            let Part { pool, store, catalog, catalog_stream, queues } = part;
            let seed = public_seed(seed) ^ number;
            let mut shard = Shard::new(pool, store, catalog, catalog_stream, seed);
            shard.queues = queues;
            shard.open_journal();
            shards.push(shard);
        }
        Ok(shards)
    }

    /// Numbers of the spare files. Those of another length are deleted: a part of a spare is none.
    fn spares(&mut self) -> Result<Vec<u32>, BootError> {
        let bytes = self.store.settings.segment_bytes;
        let mut numbers = Vec::new();
        for file in &self.files {
            match file.path {
                FilePath::Spare { number } if file.bytes == bytes => numbers.push(number),
                FilePath::Spare { .. } => {
                    let deleted = self.disk.delete(&file.path);
                    deleted.map_err(|fault| BootError::Disk(file.path.clone(), fault))?;
                }
                _ => {}
            }
        }
        Ok(numbers)
    }

    /// Numbers of the files that wait to become start files. Those of another length are deleted,
    /// and some are made if there is space.
    fn start_spares(&mut self) -> Result<Vec<u32>, BootError> {
        let wanted = START_SPARES * usize::from(self.store.settings.shards);
        let mut numbers = Vec::new();
        for file in &self.files {
            let FilePath::StartSpare { number } = file.path else { continue };
            if file.bytes == u64_of(START_FILE_BYTES) && numbers.len() < wanted {
                numbers.push(number);
            } else {
                let deleted = self.disk.delete(&file.path);
                deleted.map_err(|fault| BootError::Disk(file.path.clone(), fault))?;
            }
        }
        let mut next = numbers.iter().max().map_or(0, |last| last + 1);
        while numbers.len() < wanted {
            let path = FilePath::StartSpare { number: next };
            match self.disk.create(&path, u64_of(START_FILE_BYTES)) {
                Ok(()) => numbers.push(next),
                Err(Fault::ENOSPC) => break,
                Err(fault) => return Err(BootError::Disk(path, fault)),
            }
            next += 1;
        }
        Ok(numbers)
    }
}

/// A shard's own settings: its number.
fn of_shard(settings: &Settings, shard: u16) -> Settings {
    Settings { shard, ..settings.clone() }
}

/// Gives every partition of a topic to its owner, and the topic to all.
fn deal(parts: &mut [Part], partitions: &mut Slab<Partition>, id: wire::TopicId, topic: &Topic) {
    let shards = u16::try_from(parts.len()).expect("made from a u16");
    let mut owners = vec![Vec::with_capacity(topic.partitions.len()); parts.len()];
    for (number, place) in (0u32..).zip(&topic.partitions) {
        let Owner::Here(slot) = *place else { unreachable!("recovery owns every partition") };
        let owner = owner(&id, number, shards);
        let partition = partitions.remove(slot.0).expect("recovery made it");
        let store = &mut parts[usize::from(owner)].store;
        let slot = store.add_partition(partition);
        store.prove_again(slot);
        for (shard, owners) in (0u16..).zip(&mut owners) {
            let is_here = shard == owner;
            owners.push(if is_here { Owner::Here(slot) } else { Owner::There(owner) });
        }
    }
    for (part, partitions) in parts.iter_mut().zip(owners) {
        part.catalog.names.insert(topic.name.clone(), id);
        part.catalog.partitions += partitions.len();
        let topic = Topic { name: topic.name.clone(), settings: topic.settings, partitions };
        part.catalog.topics.insert(id, topic);
    }
}

/// Gives a queue store to its owner, with its queues.
fn deal_store(
    parts: &mut [Part],
    partitions: &mut Slab<Partition>,
    number: u32,
    found: FoundStore,
) {
    let shards = u16::try_from(parts.len()).expect("made from a u16");
    let part = &mut parts[usize::from(store_owner(number, shards))];
    let stream = partitions.remove(found.stream.0).expect("recovery made it");
    let stream = part.store.add_partition(stream);
    part.store.prove_again(stream);
    let mut store = QueueStore::new(stream);
    store.taken = found.recovery.taken;
    store.checkpoint_at = found.recovery.checkpoint_at;
    part.queues.stores.insert(number, store);
    part.queues.streams.insert(stream, number);
    for queue in found.recovery.queues.into_values() {
        let slot = part.queues.insert(queue);
        part.queues.touch(slot);
    }
}

fn fill_journal(part: &mut Part, file_sequence: u64, drained: u64) -> Result<(), BootError> {
    for _ in 0..=part.store.settings.commits_in_flight {
        let bytes = part.store.settings.journal_frame_bytes_max;
        let buf = part.store.alloc(&mut part.pool, bytes).ok_or(BootError::Memory)?;
        part.store.journal.free_bufs.push(buf);
    }
    let journal = &mut part.store.journal;
    journal.next_lsn = drained + 1;
    journal.durable_lsn = drained;
    journal.published_lsn = drained;
    journal.file_sequence = file_sequence;
    Ok(())
}

impl Shard {
    /// Takes numbers for the journal's files; the first turn opens them.
    fn open_journal(&mut self) {
        let shard = self.store.settings.shard;
        for index in 0..self.store.settings.journal_files {
            let slot = self.store.files.take().expect("limits leave room for the journal");
            let (state, pinned, pins, flushing) = (FileState::Ready, Vec::new(), 0, false);
            let (sequence, proves) = (0, Vec::new());
            let file = JournalFile { slot, state, pinned, pins, flushing, sequence, proves };
            self.store.journal.files.push(file);
            self.store.journal.unopened += 1;
            self.opening.push(journal_open(slot, shard, index));
        }
    }

    /// Emits the opening of the journal's files. Ops on a file may follow at once only after its
    /// `FileOpened`, so commits wait until all are open.
    pub(crate) fn emit_opening(&mut self, batch: &mut OpBatch) {
        batch.ops.append(&mut self.opening);
    }
}

fn journal_open(slot: FileSlot, shard: u16, index: u32) -> Op {
    Op::FileOpen { file: slot, path: FilePath::Journal { shard, index }, open: Open::Existing }
}
