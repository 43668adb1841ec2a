//! What `pelton log verify` says of a simulated disk, with nothing left on it changed.

use broker::io::sim::{FaultPlan, SimDisk};
use engine::inspect::{Directory, Event, Finding, InspectError, Lost, Summary, verify};

/// All that was told.
#[derive(Debug)]
pub struct Inspection {
    /// Of each file.
    pub findings: Vec<Finding>,
    /// What is in no file.
    pub lost: Vec<Lost>,
    /// The sum.
    pub summary: Summary,
}

/// Reads the whole disk.
///
/// # Errors
/// As [`Directory::open`].
///
/// # Panics
/// If a byte of the disk is changed by it.
pub fn inspect(disk: &SimDisk) -> Result<Inspection, InspectError> {
    // Faults are planned for the broker, not for whoever looks on.
    let mut copy = disk.clone();
    *copy.plan() = FaultPlan::default();
    let (mut findings, mut lost) = (Vec::new(), Vec::new());
    let mut directory = Directory::open(&mut copy)?;
    let summary = verify(&mut directory, &mut |event| match event {
        Event::File(finding) => findings.push(finding.clone()),
        Event::Lost(missing) => lost.push(missing.clone()),
    })?;
    assert!(copy.files().eq(disk.files()), "looking changes nothing");
    assert_eq!(copy.mutations(), disk.mutations(), "nothing is written");
    Ok(Inspection { findings, lost, summary })
}
