//! JPEG-LS lossless (ITU-T T.87) for frames of one component of 2 to 16 bits, without unsafe code. Near-lossless scans,
//! restart intervals and mapping tables are not decoded; no CT scanner writes them.

/// Decodes one frame of `rows` x `columns` to samples of `bytes_per_sample` bytes, little endian. `None` when the frame
/// is damaged, is of another size, or uses what is not decoded here.
pub fn decode(frame: &[u8], rows: u16, columns: u16, bytes_per_sample: usize) -> Option<Vec<u8>> {
    let (coding, scan) = read_markers(frame)?;
    if (coding.rows, coding.columns) != (rows, columns) || u32::from(coding.bits) > 8 * bytes_per_sample as u32 {
        return None;
    }
    let (height, width) = (usize::from(rows), usize::from(columns));
    let mut out = Vec::with_capacity(height * width * bytes_per_sample);
    let mut decoder = Decoder::new(&coding, scan);
    // Column 0 is the pixel left of the line, the last one that right of it (T.87 A.2.1).
    let mut above = vec![0i32; width + 2];
    let mut line = vec![0i32; width + 2];
    for _ in 0..height {
        above[width + 1] = above[width];
        line[0] = above[1];
        decoder.line(&above, &mut line)?;
        for value in &line[1..=width] {
            out.extend(&value.to_le_bytes()[..bytes_per_sample]);
        }
        std::mem::swap(&mut above, &mut line);
    }
    Some(out)
}

/// What the markers say.
#[derive(Debug, Default)]
struct Coding {
    rows: u16,
    columns: u16,
    bits: u8,
    /// Largest value; 0 means by the number of bits.
    max: i32,
    /// Limits between gradients; 0 means by the largest value.
    limits: [i32; 3],
    reset: i32,
}

/// Reads up to the scan and gives its bytes.
fn read_markers(frame: &[u8]) -> Option<(Coding, &[u8])> {
    let mut coding = Coding { reset: 64, ..Coding::default() };
    let mut rest = frame.strip_prefix(&[0xFF, 0xD8])?;
    loop {
        let [0xFF, marker, high, low, after @ ..] = rest else { return None };
        if *marker == 0xFF {
            rest = &rest[1..];
            continue;
        }
        let length = usize::from(u16::from_be_bytes([*high, *low])).checked_sub(2)?;
        let (body, after) = (after.get(..length)?, after.get(length..)?);
        let word = |at: usize| Some(u16::from_be_bytes([*body.get(at)?, *body.get(at + 1)?]));
        match marker {
            // Start of a JPEG-LS frame: bits, rows, columns, one component.
            0xF7 => {
                if body.len() != 9 || body[5] != 1 || !(2..=16).contains(&body[0]) {
                    return None;
                }
                (coding.bits, coding.rows, coding.columns) = (body[0], word(1)?, word(3)?);
            }
            // Preset parameters; tables and sizes beyond 16 bits are not decoded.
            0xF8 => {
                if body.first() != Some(&1) {
                    return None;
                }
                coding.max = i32::from(word(1)?);
                coding.limits = [i32::from(word(3)?), i32::from(word(5)?), i32::from(word(7)?)];
                coding.reset = match word(9)? {
                    0 => 64,
                    reset => i32::from(reset),
                };
            }
            // Start of the scan: one component without a table, no loss, no interleaving, no shift.
            0xDA => {
                let plain = matches!(body, [1, _, 0, 0, 0, 0]);
                return (plain && coding.bits > 0 && settle(&mut coding)).then_some((coding, after));
            }
            // Restart interval.
            0xDD if body.iter().any(|b| *b != 0) => return None,
            _ => {}
        }
        rest = after;
    }
}

/// Fills in defaults (T.87 C.2.4.1.1); false when the parameters contradict each other.
fn settle(coding: &mut Coding) -> bool {
    let largest = (1 << coding.bits) - 1;
    if coding.max == 0 {
        coding.max = largest;
    }
    let max = coding.max;
    let basic = if max >= 128 {
        let factor = (max.min(4095) + 128) / 256;
        [factor + 2, factor * 4 + 3, factor * 17 + 4]
    } else {
        let factor = 256 / (max + 1);
        [(3 / factor).max(2), (7 / factor).max(3), (21 / factor).max(4)]
    };
    let mut least = 1;
    for (limit, default) in coding.limits.iter_mut().zip(basic) {
        if *limit == 0 {
            *limit = if (least..=max).contains(&default) { default } else { least };
        }
        if !(least..=max).contains(limit) {
            return false;
        }
        least = *limit;
    }
    (1..=largest).contains(&max) && coding.reset >= 3
}

/// Adaptive statistics of a context: sum of magnitudes, bias, correction, count.
#[derive(Debug, Clone, Copy)]
struct Context {
    a: i32,
    b: i32,
    c: i32,
    n: i32,
}

/// Statistics of the sample that ends a run: sum of magnitudes, count, count of negatives.
#[derive(Debug, Clone, Copy)]
struct RunContext {
    a: i32,
    n: i32,
    negative: i32,
}

/// Lengths of runs as powers of two (T.87 A.2.1, table J).
const RUN_BITS: [u32; 32] =
    [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 9, 10, 11, 12, 13, 14, 15];

struct Decoder<'a> {
    bits: Bits<'a>,
    max: i32,
    limits: [i32; 3],
    reset: i32,
    /// Bits of a value that is written out plainly.
    plain_bits: u32,
    /// Longest code word, bits.
    code_bits: u32,
    contexts: Vec<Context>,
    runs: [RunContext; 2],
    run_index: usize,
}

impl<'a> Decoder<'a> {
    fn new(coding: &Coding, scan: &'a [u8]) -> Self {
        let range = coding.max + 1;
        let plain_bits = (32 - coding.max.leading_zeros()).max(1);
        let bits = plain_bits.max(2);
        let a = ((range + 32) / 64).max(2);
        Self {
            bits: Bits { bytes: scan, at: 0, held: 0, n_held: 0, after_ff: false },
            max: coding.max,
            limits: coding.limits,
            reset: coding.reset,
            plain_bits,
            code_bits: 2 * (bits + bits.max(8)),
            contexts: vec![Context { a, b: 0, c: 0, n: 1 }; 365],
            runs: [RunContext { a, n: 1, negative: 0 }; 2],
            run_index: 0,
        }
    }

    fn line(&mut self, above: &[i32], line: &mut [i32]) -> Option<()> {
        let width = line.len() - 2;
        let mut x = 1;
        while x <= width {
            let (left, up, up_left, up_right) = (line[x - 1], above[x], above[x - 1], above[x + 1]);
            let q = [up_right - up, up - up_left, up_left - left].map(|gradient| self.quantize(gradient));
            let index = (q[0] * 9 + q[1]) * 9 + q[2];
            if index != 0 {
                line[x] = self.regular(index, left, up, up_left)?;
                x += 1;
                continue;
            }
            let length = self.run_length(width + 1 - x)?;
            line[x..x + length].fill(left);
            x += length;
            // A run that does not reach the end of the line was ended by another value.
            if x <= width {
                line[x] = self.run_end(left, above[x])?;
                x += 1;
            }
        }
        Some(())
    }

    fn quantize(&self, gradient: i32) -> i32 {
        let [t1, t2, t3] = self.limits;
        let magnitude = match gradient.abs() {
            0 => 0,
            g if g < t1 => 1,
            g if g < t2 => 2,
            g if g < t3 => 3,
            _ => 4,
        };
        magnitude * gradient.signum()
    }

    /// A sample by its neighbors (T.87 A.4 to A.6). Contexts of opposite gradients are one, with the sign turned.
    fn regular(&mut self, index: i32, left: i32, up: i32, up_left: i32) -> Option<i32> {
        let sign = index.signum();
        let mut context = *self.contexts.get(index.unsigned_abs() as usize)?;
        let predicted = if up_left >= left.max(up) {
            left.min(up)
        } else if up_left <= left.min(up) {
            left.max(up)
        } else {
            left + up - up_left
        };
        let predicted = (predicted + sign * context.c).clamp(0, self.max);
        let k = golomb(context.n, context.a);
        let mapped = self.code(k, self.code_bits)?;
        let turned = k == 0 && 2 * context.b <= -context.n;
        // Even numbers are errors of 0, 1, 2 ..., odd ones of -1, -2 ...; where negative errors prevail, the other way
        // around.
        let error = match (mapped % 2 == 0, turned) {
            (true, false) | (false, true) => mapped / 2,
            (false, false) | (true, true) => -(mapped / 2) - 1,
        };

        context.a += error.abs();
        context.b += error;
        if context.n == self.reset {
            (context.a, context.b, context.n) = (context.a >> 1, context.b >> 1, context.n >> 1);
        }
        context.n += 1;
        if context.b <= -context.n {
            context.b = (context.b + context.n).max(1 - context.n);
            context.c = (context.c - 1).max(-128);
        } else if context.b > 0 {
            context.b = (context.b - context.n).min(0);
            context.c = (context.c + 1).min(127);
        }
        self.contexts[index.unsigned_abs() as usize] = context;
        Some(self.wrapped(predicted + sign * error))
    }

    /// Samples equal to the one on the left (T.87 A.7.1), at most `left_in_line`.
    fn run_length(&mut self, left_in_line: usize) -> Option<usize> {
        let mut length = 0;
        while self.bits.take(1)? == 1 {
            let whole = 1 << RUN_BITS[self.run_index];
            if length + whole > left_in_line {
                return Some(left_in_line);
            }
            length += whole;
            self.run_index = (self.run_index + 1).min(31);
            if length == left_in_line {
                return Some(length);
            }
        }
        length += self.bits.take(RUN_BITS[self.run_index])? as usize;
        (length < left_in_line).then_some(length)
    }

    /// The sample that ends a run (T.87 A.7.2).
    fn run_end(&mut self, left: i32, up: i32) -> Option<i32> {
        let same = usize::from(left == up);
        let mut run = self.runs[same];
        let k = golomb(run.n, if same == 1 { run.a + (run.n >> 1) } else { run.a });
        let code_bits = self.code_bits - RUN_BITS[self.run_index] - 1;
        let mapped = self.code(k, code_bits)?;
        let shifted = mapped + same as i32;
        let odd = shifted % 2;
        let magnitude = (shifted + odd) / 2;
        let negative_is_odd = k != 0 || 2 * run.negative >= run.n;
        let error = if negative_is_odd == (odd == 1) { -magnitude } else { magnitude };

        run.negative += i32::from(error < 0);
        run.a += (mapped + 1 - same as i32) >> 1;
        if run.n == self.reset {
            (run.a, run.n, run.negative) = (run.a >> 1, run.n >> 1, run.negative >> 1);
        }
        run.n += 1;
        self.runs[same] = run;
        self.run_index = self.run_index.saturating_sub(1);
        let sign = if left > up { -1 } else { 1 };
        Some(self.wrapped(if same == 1 { left + error } else { up + sign * error }))
    }

    /// A limited Golomb code word of at most `code_bits` bits (T.87 A.5.3).
    fn code(&mut self, k: u32, code_bits: u32) -> Option<i32> {
        let most = code_bits.checked_sub(self.plain_bits + 1)?;
        let mut zeros = 0;
        while self.bits.take(1)? == 0 {
            zeros += 1;
            if zeros > most {
                return None;
            }
        }
        let value = match zeros < most {
            true => u64::from(zeros) << k | u64::from(self.bits.take(k)?),
            false => u64::from(self.bits.take(self.plain_bits)?) + 1,
        };
        // No error is larger than the range of values, mapped to twice that.
        i32::try_from(value).ok().filter(|v| *v <= 2 * (self.max + 1))
    }

    /// Values wrap around at the range (T.87 A.4.5); what lies outside even then is damage, and becomes the nearest
    /// value.
    fn wrapped(&self, value: i32) -> i32 {
        let range = self.max + 1;
        let value = if value < 0 {
            value + range
        } else if value > self.max {
            value - range
        } else {
            value
        };
        value.clamp(0, self.max)
    }
}

/// The Golomb parameter: the least k with n x 2^k >= a.
fn golomb(n: i32, a: i32) -> u32 {
    (0..24).find(|k| i64::from(n) << k >= i64::from(a)).unwrap_or(24)
}

/// Bits of a scan, the highest first; the byte after 0xFF carries seven (T.87 A.1).
struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
    held: u64,
    n_held: u32,
    after_ff: bool,
}

impl Bits<'_> {
    /// The next `n` bits (at most 24); `None` behind the end or at a marker.
    fn take(&mut self, n: u32) -> Option<u32> {
        while self.n_held < n {
            let byte = *self.bytes.get(self.at)?;
            if self.after_ff && byte >= 0x80 {
                return None;
            }
            let bits = if self.after_ff { 7 } else { 8 };
            self.held = (self.held << bits) | u64::from(byte);
            self.n_held += bits;
            self.after_ff = byte == 0xFF;
            self.at += 1;
        }
        self.n_held -= n;
        let value = self.held >> self.n_held & ((1 << n) - 1);
        self.held &= (1 << self.n_held) - 1;
        Some(value as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of T.87 annex H.3: 4 x 4 samples of 8 bits.
    #[test]
    fn the_example_of_the_standard_is_decoded() {
        let frame = [
            0xFF, 0xD8, 0xFF, 0xF7, 0, 11, 8, 0, 4, 0, 4, 1, 1, 0x11, 0, 0xFF, 0xDA, 0, 8, 1, 1, 0, 0, 0, 0, 0xC0, 0,
            0, 0x6C, 0x80, 0x20, 0x8E, 0x01, 0xC0, 0, 0, 0x57, 0x40, 0, 0, 0x6E, 0xE6, 0, 0, 0x01, 0xBC, 0x18, 0, 0,
            0x05, 0xD8, 0, 0, 0x91, 0x60, 0xFF, 0xD9,
        ];
        let expected = [0, 0, 90, 74, 68, 50, 43, 205, 64, 145, 145, 145, 100, 145, 145, 145];
        assert_eq!(decode(&frame, 4, 4, 1), Some(expected.to_vec()));
        assert_eq!(decode(&frame, 4, 5, 1), None);
        assert_eq!(decode(&frame[..40], 4, 4, 1), None);
    }

    #[test]
    fn no_bytes_make_the_decoder_panic() {
        let mut state = 5u64;
        let mut random = move || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) as u8
        };
        for round in 0..20_000 {
            let mut frame = vec![0xFF, 0xD8, 0xFF, 0xF7, 0, 11, 2 + random() % 15, 0, 16, 0, 16, 1, 1, 0x11, 0];
            if round % 2 == 0 {
                frame.extend([0xFF, 0xF8, 0, 13, 1]);
                frame.extend((0..10).map(|_| random() % 3));
            }
            frame.extend([0xFF, 0xDA, 0, 8, 1, 1, 0, 0, 0, 0]);
            frame.extend((0..300).map(|_| random() & random()));
            let _ = decode(&frame, 16, 16, 2);
        }
    }
}
