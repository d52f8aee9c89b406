//! RLE lossless (PS3.5 annex G) for 8- and 16-bit frames of one sample. The registry's decoder panics on damaged frames.

/// Decodes one frame to `pixels` samples of `bytes_per_sample` bytes, little endian. `None` when the frame is damaged or short.
pub fn decode(frame: &[u8], pixels: usize, bytes_per_sample: usize) -> Option<Vec<u8>> {
    let word = |index: usize| Some(u32::from_le_bytes(frame.get(index * 4..index * 4 + 4)?.try_into().ok()?) as usize);
    if word(0)? != bytes_per_sample || bytes_per_sample == 0 || bytes_per_sample > 2 {
        return None;
    }
    let mut out = vec![0; pixels * bytes_per_sample];
    for segment in 0..bytes_per_sample {
        let start = word(1 + segment)?;
        let end = if segment + 1 < bytes_per_sample { word(2 + segment)? } else { frame.len() };
        let plane = unpack(frame.get(start..end)?, pixels)?;
        // The most significant byte comes first; samples are little endian.
        let offset = bytes_per_sample - 1 - segment;
        plane.iter().enumerate().for_each(|(i, value)| out[i * bytes_per_sample + offset] = *value);
    }
    Some(out)
}

/// PackBits: n in 0..=127 copies n + 1 bytes, -1..=-127 repeats the next byte 1 - n times, -128 does nothing.
fn unpack(mut packed: &[u8], length: usize) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(length);
    while out.len() < length {
        let (&control, rest) = packed.split_first()?;
        let n = usize::from(control);
        match control {
            0..=127 => {
                out.extend_from_slice(rest.get(..n + 1)?);
                packed = &rest[n + 1..];
            }
            128 => packed = rest,
            129..=255 => {
                let (&value, rest) = rest.split_first()?;
                out.resize(out.len() + 257 - n, value);
                packed = rest;
            }
        }
    }
    out.truncate(length);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_and_literals_unpack() {
        assert_eq!(unpack(&[0xFE, 7, 1, 1, 2, 128], 5), Some(vec![7, 7, 7, 1, 2]));
        assert_eq!(unpack(&[5, 1], 6), None);
        assert_eq!(unpack(&[], 1), None);
    }

    #[test]
    fn sixteen_bits_are_put_together_high_byte_first() {
        let mut frame = vec![0; 64];
        frame[0] = 2;
        frame[4] = 64;
        frame[8] = 67;
        frame.extend([1, 0x12, 0x34, 1, 0x56, 0x78]);
        assert_eq!(decode(&frame, 2, 2), Some(vec![0x56, 0x12, 0x78, 0x34]));
        assert_eq!(decode(&frame[..66], 2, 2), None);
    }
}
