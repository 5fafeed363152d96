//! client-ssl profiles.

use super::{at_once_or_later, nothing};
use crate::{
    device::{Device, objects::FullPath, transactions::Command},
    reply::{Answer, Call},
};

pub(super) fn answer(device: &Device, call: &Call, rest: &[&str]) -> Answer {
    match (call.method.as_str(), rest) {
        ("GET", []) => Ok(device.held().config.show_profiles()),
        ("GET", [path]) => {
            let path = FullPath::from_segment(path).ok_or_else(|| nothing(call))?;
            device.held().config.show_profile(&path)
        }
        ("PATCH", [path]) => {
            let path = FullPath::from_segment(path).ok_or_else(|| nothing(call))?;
            at_once_or_later(device, call, Command::Patch(path, call.json()?))
        }
        _ => Err(nothing(call)),
    }
}
