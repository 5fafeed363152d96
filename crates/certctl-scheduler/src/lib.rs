#![doc = include_str!("../README.md")]

mod framework;
mod loops;

pub use framework::{Bell, Body, Loop, Running, spawn};
pub use loops::{Intervals, table};
