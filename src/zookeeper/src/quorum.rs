//! The ensemble: election of a leader and Zab, on the original's wire.
//!
//! [`net`] and [`elections`] carry what members say to the server's one thread, whose member-to-disk-and-core side is
//! `server::ensemble`. [`member`] is one member's decisions without I/O, made of [`election`], [`leader`] and [`follower`], which may have
//! [`observers`] of its own;
//! [`configuration`] and [`membership`] say whose votes count. Invariants: at
//! most one leader serves an epoch; what was acknowledged to a client is in every later leader's log; all members apply
//! the same transactions in the same order.

pub mod configuration;
pub mod election;
pub(crate) mod elections;
pub mod follower;
pub mod leader;
mod learners;
pub mod member;
pub mod membership;
pub(crate) mod net;
pub(crate) mod observers;
pub(crate) mod oracle;
pub mod packet;
pub mod security;
#[cfg(test)]
mod simulation;
pub mod zab;
