//! The disk as recovery sees it: the same promises from real files and from simulated ones.

use engine::frame::BLOCK_BYTES;
use engine::layout::FilePath;
use engine::port::{Disk, Fault, FileEntry};
use pelton_broker::blocks::Blocks;
use pelton_broker::directory::DataDir;
use pelton_broker::disk::FileDisk;
use pelton_broker::io::sim::SimDisk;

const ONE: FilePath = FilePath::Journal { shard: 0, index: 1 };
const TWO: FilePath = FilePath::Segment { topic: [3; 16], partition: 2, sequence: 1 };
const BLOCK: u64 = BLOCK_BYTES as u64;

#[test]
fn real_files_keep_the_contract() {
    let root = tempfile::tempdir().expect("a temporary folder");
    keeps_the_contract(&mut FileDisk::new(DataDir::new(root.path().to_path_buf())));
}

#[test]
fn simulated_files_keep_the_contract() {
    keeps_the_contract(&mut SimDisk::new(1));
}

fn keeps_the_contract(disk: &mut impl Disk) {
    let mut block = Blocks::zeroed(BLOCK_BYTES);
    assert_eq!(disk.list(), Ok(Vec::new()));
    assert_eq!(disk.read(&ONE, 0, block.bytes_mut()), Err(Fault::ENOENT));
    assert_eq!(disk.write(&ONE, 0, block.bytes()), Err(Fault::ENOENT));
    assert_eq!(disk.delete(&ONE), Ok(()), "what is not there is deleted");

    assert_eq!(disk.create(&ONE, 2 * BLOCK), Ok(()));
    assert_eq!(disk.create(&TWO, 0), Ok(()));
    block.bytes_mut().fill(7);
    assert_eq!(disk.write(&ONE, BLOCK, block.bytes()), Ok(()));
    assert_eq!(disk.write(&TWO, BLOCK, block.bytes()), Ok(()), "a write may lengthen a file");
    let entry = |path, bytes| FileEntry { path, bytes };
    assert_eq!(disk.list(), Ok(vec![entry(ONE, 2 * BLOCK), entry(TWO, 2 * BLOCK)]));

    let mut all = Blocks::zeroed(3 * BLOCK_BYTES);
    for path in [ONE, TWO] {
        all.bytes_mut().fill(1);
        assert_eq!(disk.read(&path, 0, all.bytes_mut()), Ok(2 * BLOCK_BYTES), "up to its end");
        assert!(all.bytes()[..BLOCK_BYTES].iter().all(|&byte| byte == 0), "never written: zeros");
        assert!(all.bytes()[BLOCK_BYTES..2 * BLOCK_BYTES].iter().all(|&byte| byte == 7));
    }

    assert_eq!(disk.create(&ONE, BLOCK), Ok(()), "creating empties");
    assert_eq!(disk.read(&ONE, 0, all.bytes_mut()), Ok(BLOCK_BYTES));
    assert!(all.bytes()[..BLOCK_BYTES].iter().all(|&byte| byte == 0));
    assert_eq!(disk.delete(&ONE), Ok(()));
    assert_eq!(disk.list(), Ok(vec![entry(TWO, 2 * BLOCK)]));
}
