//! Damage to what was acknowledged: named, quarantined, healed or repaired, and never served as
//! something else, nor cut off.

mod flips;
mod frames;
mod lives;
mod queue_end;
mod repair;
mod scrub;
mod window;
