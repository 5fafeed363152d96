//! Certificates and keys: uploaded files become objects, and objects go.

use serde_json::Value;

use super::{at_once_or_later, nothing, text};
use crate::{
    device::{
        Device,
        objects::{FullPath, Kind},
        transactions::Command,
    },
    reply::{Answer, Call, Refusal},
};

pub(super) fn answer(device: &Device, call: &Call, kind: Kind, rest: &[&str]) -> Answer {
    match (call.method.as_str(), rest) {
        ("POST", []) => install(device, call, kind),
        ("GET", []) => Ok(device.held().config.list(kind)),
        ("DELETE", [path]) => {
            let path = FullPath::from_segment(path).ok_or_else(|| nothing(call))?;
            at_once_or_later(device, call, Command::Remove(kind, path))
        }
        _ => Err(nothing(call)),
    }
}

fn install(device: &Device, call: &Call, kind: Kind) -> Answer {
    let body = call.json()?;
    if text(&body, "command")? != "install" {
        return Err(Refusal::bad("the only command is install"));
    }
    let name = text(&body, "name")?;
    let path = FullPath::parse(name).ok_or_else(|| Refusal::bad(format!("{name} is no name")))?;
    let file = text(&body, "from-local-file")?.to_owned();
    device.change(|held| {
        let mut draft = held.config.clone();
        let shown = draft.install(kind, &path, held.uploads.text(&file)?)?;
        held.config = draft;
        Ok(shown)
    })
}

pub(super) fn show(device: &Device, path: &str) -> Answer {
    let path =
        FullPath::from_segment(path).ok_or_else(|| Refusal::not_found("there is no such name"))?;
    device.held().config.show_certificate(&path)
}

/// `rm` of the device; only uploaded files can be removed here.
pub(super) fn remove_upload(device: &Device, call: &Call) -> Answer {
    let body = call.json()?;
    let path = text(&body, "utilCmdArgs")?;
    let mut answer = body.clone();
    if !device.held().uploads.remove(path) {
        // The device answers 200 and hands over what the program printed.
        answer["commandResult"] = Value::from(format!(
            "rm: cannot remove '{path}': No such file or directory\n"
        ));
    }
    Ok(answer)
}
