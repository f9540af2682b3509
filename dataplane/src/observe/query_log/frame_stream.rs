//! Frame streams, the transport of dnstap (<https://farsightsec.github.io/fstrm/>, "Frame Streams Protocol"): octets of
//! frames and control frames, and reading the answers of a bidirectional handshake.
//!
//! ```text
//! data frame:     u32 length (not 0), payload
//! control frame:  u32 0, u32 length, u32 type, then fields: u32 type (1: content type), u32 length, octets
//! ```
//!
//! All numbers in network order. In one direction (a file): START, data frames, STOP. In both (a socket): READY,
//! to be answered by ACCEPT; START, data frames, STOP, to be answered by FINISH.

/// What the frames hold.
pub const CONTENT_TYPE: &[u8] = b"protobuf:dnstap.Dnstap";
/// The most octets of a control frame, its type included.
pub(super) const MAX_CONTROL_OCTETS: usize = 512;
/// The escape and the length before them.
pub(super) const CONTROL_PREFIX_OCTETS: usize = 8;
/// The type of the one field there is.
const FIELD_CONTENT_TYPE: u32 = 1;

/// The type of a control frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u32)]
pub enum Control {
    /// The reader takes a content type that was offered.
    Accept = 1,
    /// Data frames follow.
    Start = 2,
    /// No more data frames follow.
    Stop = 3,
    /// The writer offers content types.
    Ready = 4,
    /// The reader has read everything before STOP.
    Finish = 5,
}

/// Appends what stands before a data frame of `octets`.
pub(super) fn data(octets: usize, out: &mut Vec<u8>) {
    // A frame holds two messages' worth of octets at most.
    out.extend_from_slice(&u32::try_from(octets).unwrap_or(u32::MAX).to_be_bytes());
}

/// A control frame as octets, with our content type where the type has one.
pub(super) fn control(control: Control) -> Vec<u8> {
    let mut payload = (control as u32).to_be_bytes().to_vec();
    if matches!(control, Control::Accept | Control::Start | Control::Ready) {
        payload.extend_from_slice(&FIELD_CONTENT_TYPE.to_be_bytes());
        data(CONTENT_TYPE.len(), &mut payload);
        payload.extend_from_slice(CONTENT_TYPE);
    }
    let mut octets = vec![0; 4];
    data(payload.len(), &mut octets);
    octets.extend_from_slice(&payload);
    octets
}

/// How long the control frame is that begins so; `None` when none does.
pub(super) fn control_len(prefix: [u8; CONTROL_PREFIX_OCTETS]) -> Option<usize> {
    let [0, 0, 0, 0, a, b, c, d] = prefix else { return None };
    let len = usize::try_from(u32::from_be_bytes([a, b, c, d])).ok()?;
    (4..=MAX_CONTROL_OCTETS).contains(&len).then_some(len)
}

/// Whether the payload is a control frame of this type that takes our content type: names it, or none at all.
pub(super) fn is_control(payload: &[u8], control: Control) -> bool {
    let Some((kind, mut rest)) = payload.split_first_chunk::<4>() else { return false };
    let (mut fields, mut ours) = (0, 0);
    while let Some((field, after)) = rest.split_first_chunk::<4>() {
        let Some((len, after)) = after.split_first_chunk::<4>() else { return false };
        let len = usize::try_from(u32::from_be_bytes(*len)).unwrap_or(usize::MAX);
        let Some((value, after)) = after.split_at_checked(len) else { return false };
        fields += 1;
        ours += usize::from(*field == FIELD_CONTENT_TYPE.to_be_bytes() && value == CONTENT_TYPE);
        rest = after;
    }
    *kind == (control as u32).to_be_bytes() && rest.is_empty() && (fields == 0 || ours > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_frames_read_back() {
        for kind in [Control::Accept, Control::Start, Control::Stop, Control::Ready, Control::Finish] {
            let octets = control(kind);
            let (prefix, payload) = octets.split_first_chunk::<8>().unwrap();
            assert_eq!(control_len(*prefix), Some(payload.len()));
            assert!(is_control(payload, kind), "{kind:?}");
            assert!(!is_control(&payload[..payload.len() - 1], kind), "{kind:?}");
            let other = if kind == Control::Stop { Control::Finish } else { Control::Stop };
            assert!(!is_control(payload, other), "{kind:?}");
        }
        assert_eq!(control(Control::Stop), [0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 3]);
    }

    #[test]
    fn what_is_no_control_frame_is_refused() {
        assert_eq!(control_len([0, 0, 0, 1, 0, 0, 0, 4]), None);
        assert_eq!(control_len([0, 0, 0, 0, 0, 0, 0, 3]), None);
        assert_eq!(control_len([0, 0, 0, 0, 0, 0, 2, 1]), None);
        assert_eq!(control_len([0, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF]), None);
        // Another content type; a field that runs over the end.
        assert!(!is_control(&[0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, b'x'], Control::Accept));
        assert!(!is_control(&[0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 9, b'x'], Control::Accept));
        assert!(is_control(&[0, 0, 0, 1], Control::Accept));
    }
}
