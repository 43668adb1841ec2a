//! Frames of journal and segments: arbitrary bytes, and the same with right checksums in front, so
//! that the fuzzer gets behind them. What is whole lies within its bytes.

use pelton_engine::frame::{
    BLOCK_BYTES, ENTRY_BYTES, EntryHeader, FrameHeader, FrameKey, FrameView, HEADER_BYTES,
};
use pelton_wire::crc::{crc32c, crc32c_append};
use zerocopy::{FromBytes, IntoBytes};

const KEY: FrameKey = FrameKey(7);

/// Feeds it.
pub fn run(input: &[u8]) {
    let mut bytes = input.to_vec();
    bytes.resize(bytes.len().next_multiple_of(BLOCK_BYTES).clamp(BLOCK_BYTES, 1 << 16), 0);
    look(&bytes);
    seal(&mut bytes);
    look(&bytes);
}

fn look(bytes: &[u8]) {
    let head = FrameView::read_head(bytes, KEY).map(|view| view.frame_bytes());
    let Ok(view) = FrameView::read(bytes, KEY) else { return };
    assert_eq!(head, Ok(view.frame_bytes()), "what is whole has a whole head");
    assert!(view.frame_bytes() <= bytes.len(), "inside the input");
    let data = view.parts().map(|(_, data)| data.len()).sum::<usize>();
    assert!(HEADER_BYTES + view.entries.len() * ENTRY_BYTES + data <= view.frame_bytes());
    for (entry, data) in view.parts() {
        assert_eq!(crc32c(data), entry.crc.get(), "its data are as its checksum says");
        let _ = (entry.next_offset(), pelton_engine::inspect::check_entry(entry, data).is_ok());
    }
}

/// Puts right checksums on the table's data and on the header, as far as they lie in the bytes.
fn seal(bytes: &mut [u8]) {
    let Ok((header, _)) = FrameHeader::read_from_prefix(bytes) else { return };
    let table_end = HEADER_BYTES + usize::from(header.entry_count.get()) * ENTRY_BYTES;
    if table_end > bytes.len() {
        return;
    }
    let (head, data) = bytes.split_at_mut(table_end);
    let mut at = 0;
    for row in head[HEADER_BYTES..].chunks_exact_mut(ENTRY_BYTES) {
        let Ok(entry) = EntryHeader::mut_from_bytes(row) else { return };
        let end = at + entry.length.get() as usize;
        let Some(data) = data.get(at..end) else { break };
        entry.crc = crc32c(data).into();
        at = end;
    }
    let mut header = header;
    header.crc = 0.into();
    let sum = crc32c_append(crc32c(&KEY.0.to_le_bytes()), header.as_bytes());
    header.crc = crc32c_append(sum, &head[HEADER_BYTES..]).into();
    head[..HEADER_BYTES].copy_from_slice(header.as_bytes());
}
