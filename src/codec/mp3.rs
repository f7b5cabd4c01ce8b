//! The header of an MPEG audio frame (ISO/IEC 11172-3, section 2.4.1.3, and 13818-3): sample rate and number of samples.

/// Bit rates of layer III in kbit/s, by the number in the header: MPEG-1, and MPEG-2 with half the sample rates.
const BIT_RATES: [[u32; 15]; 2] = [
    [0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320],
    [0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160],
];

/// The header of a layer III frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mp3Header {
    /// The sample rate in Hz.
    pub sample_rate: u32,
    /// The number of samples in the frame: 1152, or 576 at half the sample rates.
    pub samples: u32,
    /// The size of the frame with its header, in bytes; 0 if the bit rate is free.
    pub length: usize,
}

/// Reads the header of a layer III frame. `None`: the bytes do not start with one.
pub fn read_header(bytes: &[u8]) -> Option<Mp3Header> {
    const LAYER_3: u8 = 1;
    const MPEG_1: u8 = 3;
    const RESERVED: u8 = 1;

    let &[sync, version_layer, rates, ..] = bytes.first_chunk::<4>()?;
    let (version, layer) = (version_layer >> 3 & 0x03, version_layer >> 1 & 0x03);
    if sync != 0xff || version_layer & 0xe0 != 0xe0 || layer != LAYER_3 || version == RESERVED {
        return None;
    }
    let full_rate = *[44_100, 48_000, 32_000].get(usize::from(rates >> 2 & 0x03))?;
    let (sample_rate, samples, table) = match version {
        MPEG_1 => (full_rate, 1152, 0),
        // MPEG-2, then MPEG-2.5.
        2 => (full_rate / 2, 576, 1),
        _ => (full_rate / 4, 576, 1),
    };
    let bit_rate = BIT_RATES[table].get(usize::from(rates >> 4))? * 1000;
    let padding = u32::from(rates >> 1 & 1);
    let length = if bit_rate == 0 { 0 } else { samples / 8 * bit_rate / sample_rate + padding };
    Some(Mp3Header { sample_rate, samples, length: length as usize })
}

/// Returns the sample rate of a message and the samples in all its frames; most messages have one frame. `None`: the message
/// does not start with a frame.
pub fn count_samples(mut message: &[u8]) -> Option<(u32, u32)> {
    let first = read_header(message)?;
    let mut samples = 0;
    // Bytes after the last frame, such as a tag, have no duration.
    while let Some(header) = read_header(message) {
        samples += header.samples;
        message = match header.length {
            0 => &[],
            length => message.get(length..).unwrap_or_default(),
        };
    }
    Some((first.sample_rate, samples))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn headers_of_lame() {
        let header = read_header(&[0xff, 0xfb, 0x90, 0x64]).unwrap();
        assert_eq!(header, Mp3Header { sample_rate: 44_100, samples: 1152, length: 417 }, "128 kbit/s");
        let header = read_header(&[0xff, 0xf3, 0x82, 0xc4]).unwrap();
        assert_eq!(header, Mp3Header { sample_rate: 22_050, samples: 576, length: 209 }, "64 kbit/s, padded");
        let header = read_header(&[0xff, 0xe3, 0x18, 0xc4]).unwrap();
        assert_eq!(header.sample_rate, 8000);
    }

    #[test]
    fn other_bytes_are_no_frame() {
        for bytes in [
            &[0xff, 0xfb, 0x90][..],
            &[0xff, 0xfd, 0x90, 0x64],
            &[0xff, 0xeb, 0x90, 0],
            &[0xff, 0xfb, 0xf0, 0],
            &[0xff, 0xfb, 0x9c, 0],
            b"ID3\x04",
        ] {
            assert_eq!(read_header(bytes), None, "{bytes:x?}");
        }
    }

    #[test]
    fn a_message_of_several_frames() {
        let mut message = vec![0; 2 * 417 + 10];
        for at in [0, 417] {
            message[at..at + 4].copy_from_slice(&[0xff, 0xfb, 0x90, 0x64]);
        }
        assert_eq!(count_samples(&message), Some((44_100, 2304)));
        assert_eq!(count_samples(&message[..300]), Some((44_100, 1152)), "truncated");
        assert_eq!(count_samples(&message[1..]), None);
    }

    proptest! {
        #[test]
        fn any_bytes_terminate(mut bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            if bytes.len() > 4 {
                bytes[..2].copy_from_slice(&[0xff, 0xfb]);
            }
            count_samples(&bytes);
        }
    }
}
