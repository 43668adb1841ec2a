//! The client library of Pelton.
//!
//! [`session`] is the protocol without a socket: bytes in, events out.

pub mod limits;
pub mod session;
