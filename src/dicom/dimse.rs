//! DIMSE command sets (PS3.7): implicit little endian, group 0000.

use std::collections::BTreeMap;

/// Longest command set.
pub const COMMAND_BYTES_MAX: usize = 64 << 10;

/// Command Field values.
pub mod field {
    /// C-STORE request.
    pub const STORE: u16 = 0x0001;
    /// C-ECHO request.
    pub const ECHO: u16 = 0x0030;
    /// N-EVENT-REPORT request.
    pub const EVENT_REPORT: u16 = 0x0100;
    /// N-ACTION request.
    pub const ACTION: u16 = 0x0130;
    /// C-CANCEL request.
    pub const CANCEL: u16 = 0x0FFF;
    /// Set in every response.
    pub const RESPONSE: u16 = 0x8000;
}

/// Statuses of a response.
pub mod status {
    /// Done.
    pub const SUCCESS: u16 = 0x0000;
    /// Processing failure: our own fault.
    pub const PROCESSING_FAILURE: u16 = 0x0110;
    /// No such SOP instance.
    pub const NO_SUCH_INSTANCE: u16 = 0x0112;
    /// An argument that does not fit: a transaction that was never requested.
    pub const INVALID_ARGUMENT: u16 = 0x0115;
    /// The SOP class is not the instance's.
    pub const CLASS_INSTANCE_CONFLICT: u16 = 0x0119;
    /// The SOP class is not supported.
    pub const SOP_CLASS_NOT_SUPPORTED: u16 = 0x0122;
    /// No such action type.
    pub const NO_SUCH_ACTION: u16 = 0x0123;
    /// The caller may not do this.
    pub const NOT_AUTHORIZED: u16 = 0x0124;
    /// No such event type.
    pub const NO_SUCH_EVENT: u16 = 0x0113;
    /// An operation that is not offered.
    pub const UNRECOGNIZED_OPERATION: u16 = 0x0211;
    /// No room.
    pub const OUT_OF_RESOURCES: u16 = 0xA700;
    /// The data set is not of the SOP class or instance that the command names.
    pub const DATA_SET_DOES_NOT_MATCH: u16 = 0xA900;
    /// The data set cannot be parsed.
    pub const CANNOT_UNDERSTAND: u16 = 0xC000;
}

const NO_DATA_SET: u16 = 0x0101;

/// A command set: values by element number.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Command(BTreeMap<u16, Vec<u8>>);

impl Command {
    /// Reads a command set; `None` when it is damaged.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let mut values = BTreeMap::new();
        let mut rest = bytes;
        while !rest.is_empty() {
            let head: [u8; 8] = rest.get(..8)?.try_into().ok()?;
            let length = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
            if head[..2] != [0, 0] {
                return None;
            }
            let end = length.checked_add(8)?;
            let value = rest.get(8..end)?;
            let element = u16::from_le_bytes([head[2], head[3]]);
            if element != 0 {
                values.insert(element, value.to_vec());
            }
            rest = &rest[end..];
        }
        Some(Self(values))
    }

    /// The bytes, with Command Group Length in front.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut body = Vec::new();
        for (element, value) in &self.0 {
            write_element(&mut body, *element, value);
        }
        let mut out = Vec::with_capacity(body.len() + 12);
        write_element(&mut out, 0, &(body.len() as u32).to_le_bytes());
        out.extend(body);
        out
    }

    fn number(&self, element: u16) -> Option<u16> {
        Some(u16::from_le_bytes(self.0.get(&element)?.get(..2)?.try_into().ok()?))
    }

    fn text(&self, element: u16) -> String {
        let bytes = self.0.get(&element).map_or(&[][..], Vec::as_slice);
        String::from_utf8_lossy(bytes).trim_matches(|c: char| c == '\0' || c.is_whitespace()).to_owned()
    }

    /// Command Field (0000,0100).
    pub fn field(&self) -> Option<u16> {
        self.number(0x0100)
    }

    /// Message ID (0000,0110).
    pub fn message_id(&self) -> Option<u16> {
        self.number(0x0110)
    }

    /// Message ID Being Responded To (0000,0120).
    pub fn responded_id(&self) -> Option<u16> {
        self.number(0x0120)
    }

    /// Status (0000,0900).
    pub fn status(&self) -> Option<u16> {
        self.number(0x0900)
    }

    /// Error Comment (0000,0902).
    pub fn comment(&self) -> String {
        self.text(0x0902)
    }

    /// True when a data set follows (0000,0800).
    pub fn has_data_set(&self) -> bool {
        self.number(0x0800).is_some_and(|t| t != NO_DATA_SET)
    }

    /// Affected SOP Class UID (0000,0002), or Requested SOP Class UID (0000,0003) of an N-ACTION.
    pub fn sop_class(&self) -> String {
        let affected = self.text(0x0002);
        if affected.is_empty() { self.text(0x0003) } else { affected }
    }

    /// Affected SOP Instance UID (0000,1000), or Requested SOP Instance UID (0000,1001) of an N-ACTION.
    pub fn sop_instance(&self) -> String {
        let affected = self.text(0x1000);
        if affected.is_empty() { self.text(0x1001) } else { affected }
    }

    /// Action Type ID (0000,1008).
    pub fn action_type(&self) -> Option<u16> {
        self.number(0x1008)
    }

    /// Event Type ID (0000,1002).
    pub fn event_type(&self) -> Option<u16> {
        self.number(0x1002)
    }

    /// The response to this request. The comment is cut to 64 characters and carries no patient data.
    pub fn response(&self, status: u16, comment: &str) -> Self {
        let mut values = BTreeMap::new();
        // A response names as affected what its request names as affected or, in an N-ACTION, as requested.
        for (from, to) in
            [(0x0003, 0x0002), (0x0002, 0x0002), (0x1001, 0x1000), (0x1000, 0x1000), (0x1002, 0x1002), (0x1008, 0x1008)]
        {
            if let Some(value) = self.0.get(&from) {
                values.insert(to, value.clone());
            }
        }
        values.insert(0x0100, (self.field().unwrap_or(0) | field::RESPONSE).to_le_bytes().to_vec());
        values.insert(0x0120, self.message_id().unwrap_or(0).to_le_bytes().to_vec());
        values.insert(0x0800, NO_DATA_SET.to_le_bytes().to_vec());
        values.insert(0x0900, status.to_le_bytes().to_vec());
        if !comment.is_empty() {
            values.insert(0x0902, padded(&comment.chars().filter(char::is_ascii).take(64).collect::<String>(), b' '));
        }
        Self(values)
    }

    /// A C-ECHO request.
    pub fn echo(message_id: u16) -> Self {
        Self(BTreeMap::from([
            (0x0002, padded(super::sop_class::VERIFICATION, 0)),
            (0x0100, field::ECHO.to_le_bytes().to_vec()),
            (0x0110, message_id.to_le_bytes().to_vec()),
            (0x0800, NO_DATA_SET.to_le_bytes().to_vec()),
        ]))
    }

    /// A C-STORE request, medium priority.
    pub fn store(message_id: u16, sop_class: &str, sop_instance: &str) -> Self {
        Self(BTreeMap::from([
            (0x0002, padded(sop_class, 0)),
            (0x0100, field::STORE.to_le_bytes().to_vec()),
            (0x0110, message_id.to_le_bytes().to_vec()),
            (0x0700, 0u16.to_le_bytes().to_vec()),
            (0x0800, 1u16.to_le_bytes().to_vec()),
            (0x1000, padded(sop_instance, 0)),
        ]))
    }

    /// A request for storage commitment: N-ACTION, type 1, on the well-known instance (PS3.4 J.3.2).
    pub fn request_commitment(message_id: u16) -> Self {
        Self(BTreeMap::from([
            (0x0003, padded(super::sop_class::STORAGE_COMMITMENT, 0)),
            (0x0100, field::ACTION.to_le_bytes().to_vec()),
            (0x0110, message_id.to_le_bytes().to_vec()),
            (0x0800, 1u16.to_le_bytes().to_vec()),
            (0x1001, padded(super::sop_class::STORAGE_COMMITMENT_INSTANCE, 0)),
            (0x1008, 1u16.to_le_bytes().to_vec()),
        ]))
    }

    /// A report of storage commitment: N-EVENT-REPORT, type 1 (all are kept) or 2 (failures exist) (PS3.4 J.3.3).
    pub fn report_commitment(message_id: u16, event_type: u16) -> Self {
        Self(BTreeMap::from([
            (0x0002, padded(super::sop_class::STORAGE_COMMITMENT, 0)),
            (0x0100, field::EVENT_REPORT.to_le_bytes().to_vec()),
            (0x0110, message_id.to_le_bytes().to_vec()),
            (0x0800, 1u16.to_le_bytes().to_vec()),
            (0x1000, padded(super::sop_class::STORAGE_COMMITMENT_INSTANCE, 0)),
            (0x1002, event_type.to_le_bytes().to_vec()),
        ]))
    }
}

fn write_element(out: &mut Vec<u8>, element: u16, value: &[u8]) {
    out.extend([0, 0]);
    out.extend(element.to_le_bytes());
    out.extend((value.len() as u32).to_le_bytes());
    out.extend_from_slice(value);
}

fn padded(text: &str, with: u8) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    if bytes.len() % 2 == 1 {
        bytes.push(with);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_survive_writing_and_reading() {
        let request = Command::store(7, "1.2.3", "1.2.4");
        let again = Command::parse(&request.to_bytes()).unwrap();
        assert_eq!((again.field(), again.message_id(), again.has_data_set()), (Some(field::STORE), Some(7), true));
        assert_eq!((again.sop_class(), again.sop_instance()), ("1.2.3".into(), "1.2.4".into()));
        let response = Command::parse(&again.response(0xA700, "full").to_bytes()).unwrap();
        assert_eq!(
            (response.field(), response.responded_id(), response.status()),
            (Some(0x8001), Some(7), Some(0xA700))
        );
        assert_eq!(response.comment(), "full");
    }

    #[test]
    fn damaged_commands_are_refused() {
        let bytes = Command::echo(1).to_bytes();
        for cut in 1..bytes.len() {
            let _ = Command::parse(&bytes[..cut]);
        }
        assert_eq!(Command::parse(&bytes[..9]), None);
        assert_eq!(Command::parse(&[8, 0, 0, 0, 0, 0, 0, 0]), None);
        assert_eq!(Command::parse(&[0, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF]), None);
    }
}
