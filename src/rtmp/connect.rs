//! The `connect` of a client: its texts, and the properties of E-RTMP in its reply.

use super::client::CAN_FORWARD;
use super::command::Command;
use crate::codec::amf0::{Object, Value};

/// Maximum length of a text of `connect`, in bytes: enough for any URL. Longer texts are truncated.
const MAX_TEXT: usize = 4096;

/// E-RTMP: maximum length of a FourCC (four characters, or "*" for any) and of a list of them. A `fourCcList` beyond these
/// limits is not sent back.
const MAX_FOUR_CC: usize = 4;
const MAX_CODECS: usize = 64;

/// E-RTMP, capsEx: multitrack (2), ModEx (4) and nanosecond offsets (8) are forwarded unchanged. Reconnect requests (1) are
/// not supported.
const CAPABILITIES: u32 = 2 | 4 | 8;

/// A client's `connect` (section 7.2.1.1).
#[derive(Debug, Clone, Default)]
pub struct Connect {
    /// The application with its parameters.
    pub app: String,
    /// The URL of the connection, up to the application.
    pub tc_url: String,
    /// The URL of the web page with the player.
    pub page_url: String,
    /// The name and version of the client.
    pub flash_ver: String,
    /// 0 for AMF0, 3 for AMF3.
    pub object_encoding: f64,
    pub(super) transaction: f64,
    /// The received command object, for the fields of E-RTMP.
    pub(super) object: Object,
}

impl Connect {
    /// Creates a minimal `connect`.
    pub fn new(app: &str, tc_url: &str) -> Self {
        Self { app: app.into(), tc_url: tc_url.into(), ..Self::default() }
    }

    /// Returns `tcUrl` without its parameters.
    pub fn tc_url_without_params(&self) -> &str {
        self.tc_url.split(['?', ',']).next().unwrap_or_default()
    }

    /// Returns another text of the command object, or "" if it is not a text.
    pub fn text(&self, key: &str) -> &str {
        truncate(self.object.get(key).and_then(Value::as_str).unwrap_or_default(), MAX_TEXT)
    }

    pub(super) fn read(command: &Command) -> Self {
        let object = command.object.as_object().cloned().unwrap_or_default();
        let text = |key| truncate(object.get(key).and_then(Value::as_str).unwrap_or_default(), MAX_TEXT).to_owned();
        Self {
            app: text("app"),
            tc_url: text("tcUrl"),
            page_url: text("pageUrl"),
            flash_ver: text("flashVer"),
            object_encoding: object.get("objectEncoding").and_then(Value::as_number).unwrap_or(0.0),
            transaction: command.transaction,
            object,
        }
    }

    /// Adds the properties of E-RTMP ("Enhancing NetConnection connect Command") for a server that forwards any codec, if the
    /// client sent them.
    pub(super) fn add_enhanced_properties(&self, mut properties: Object) -> Object {
        if let Some(list @ Value::StrictArray(codecs)) = self.object.get("fourCcList")
            && codecs.len() <= MAX_CODECS
            && codecs.iter().all(|codec| codec.as_str().is_some_and(|codec| codec.len() <= MAX_FOUR_CC))
        {
            properties.insert("fourCcList", list.clone());
        }
        for map in ["videoFourCcInfoMap", "audioFourCcInfoMap"] {
            if self.object.get(map).is_some() {
                properties.insert(map, Object::new().with("*", CAN_FORWARD));
            }
        }
        if let Some(capabilities) = self.object.get("capsEx").and_then(Value::as_number) {
            // A float-to-integer cast saturates, so any number is harmless.
            properties.insert("capsEx", f64::from(capabilities as u32 & CAPABILITIES));
        }
        properties
    }
}

/// Returns the start of a text, at most `max` bytes.
pub(super) fn truncate(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}
