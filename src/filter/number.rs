//! JSON numbers compared as what they are: decimal numbers of any length, never floats.

use std::{cmp::Ordering, fmt};

/// Digits held in the machine word; longer numbers keep the rest in `tail`.
const WORD_DIGITS: u32 = 19;

/// Exponents beyond this are held at it. Filters cannot name such numbers ([`Decimal::is_sane`]),
/// so only two absurd numbers of one event could ever be mistaken for each other.
const EXPONENT_MAX: i64 = 1_000_000_000;

/// A decimal number in normal form: equal numbers are equal values, however they were written.
///
/// Its value is `sign x 0.d1d2d3… x 10^exponent`, with `d1` not zero.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Decimal {
    sign: Sign,
    exponent: i32,
    /// The first 19 digits, padded with zeros on the right.
    head: u64,
    /// Digits beyond the head (0 to 9, not text), without trailing zeros. Boxed twice because few
    /// numbers have any, and literals lie in memory by the hundred thousand.
    tail: Option<Box<Box<[u8]>>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Sign {
    Minus,
    Zero,
    Plus,
}

impl Decimal {
    const ZERO: Self = Self { sign: Sign::Zero, exponent: 0, head: 0, tail: None };

    /// Reads the text of a JSON number. What is no digit, point, sign or exponent is skipped: the
    /// text has been checked before, and a wrong one must do no harm.
    pub(crate) fn parse(text: &str) -> Self {
        let (mut head, mut digits, mut exponent) = (0u64, 0u32, 0i64);
        let mut tail = Vec::new();
        let mut after_point = false;
        let mut scale = 0i64;
        for (at, byte) in text.bytes().enumerate() {
            match byte {
                b'0'..=b'9' => {
                    let digit = byte - b'0';
                    if digits == 0 && digit == 0 {
                        exponent -= i64::from(after_point);
                        continue;
                    }
                    exponent += i64::from(!after_point);
                    if digits < WORD_DIGITS {
                        head = head * 10 + u64::from(digit);
                        digits += 1;
                    } else {
                        tail.push(digit);
                    }
                }
                b'.' => after_point = true,
                b'e' | b'E' => {
                    scale = parse_exponent(&text[at + 1..]);
                    break;
                }
                _ => {}
            }
        }
        if digits == 0 {
            return Self::ZERO;
        }
        while tail.last() == Some(&0) {
            tail.pop();
        }
        Self {
            sign: if text.starts_with('-') { Sign::Minus } else { Sign::Plus },
            exponent: narrow(exponent + scale),
            head: head * 10u64.pow(WORD_DIGITS - digits),
            tail: (!tail.is_empty()).then(|| Box::new(tail.into_boxed_slice())),
        }
    }

    /// False for numbers whose exponent is too large to be told apart from others.
    pub(crate) fn is_sane(&self) -> bool {
        i64::from(self.exponent).abs() < EXPONENT_MAX / 2
    }

    /// A number in the same order, but coarser: `a <= b` implies `a.rank() <= b.rank()`.
    pub(crate) fn rank(&self) -> u128 {
        const MIDDLE: u128 = 1 << 127;
        let biased = u128::from((i64::from(self.exponent) + (1 << 32)).unsigned_abs());
        let magnitude = (biased << 64) | u128::from(self.head);
        match self.sign {
            Sign::Zero => MIDDLE,
            Sign::Plus => MIDDLE | magnitude,
            Sign::Minus => MIDDLE - 1 - magnitude,
        }
    }

    fn magnitude(&self) -> (i32, u64, Option<&[u8]>) {
        (self.exponent, self.head, self.tail.as_deref().map(AsRef::as_ref))
    }
}

/// Cuts an exponent that is beyond telling apart.
fn narrow(exponent: i64) -> i32 {
    i32::try_from(exponent.clamp(-EXPONENT_MAX, EXPONENT_MAX)).unwrap_or(0)
}

fn parse_exponent(text: &str) -> i64 {
    let mut value = 0i64;
    for byte in text.bytes().filter(u8::is_ascii_digit) {
        value = (value * 10 + i64::from(byte - b'0')).min(EXPONENT_MAX);
    }
    if text.starts_with('-') { -value } else { value }
}

impl From<usize> for Decimal {
    fn from(count: usize) -> Self {
        Self::parse(&count.to_string())
    }
}

impl Ord for Decimal {
    fn cmp(&self, other: &Self) -> Ordering {
        self.sign.cmp(&other.sign).then_with(|| {
            let order = self.magnitude().cmp(&other.magnitude());
            if self.sign == Sign::Minus { order.reverse() } else { order }
        })
    }
}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// One text for one number: `1`, `1.0` and `10e-1` all print as `1`.
impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.sign == Sign::Zero {
            return f.write_str("0");
        }
        let mut digits = self.head.to_string();
        if let Some(tail) = &self.tail {
            digits.extend(tail.iter().map(|digit| char::from(b'0' + digit)));
        }
        let digits = digits.trim_end_matches('0');
        let sign = if self.sign == Sign::Minus { "-" } else { "" };
        match usize::try_from(self.exponent) {
            Ok(point) if (1..=21).contains(&point) && digits.len() <= point => {
                write!(f, "{sign}{digits}{}", "0".repeat(point - digits.len()))
            }
            Ok(point) if (1..=21).contains(&point) => {
                write!(f, "{sign}{}.{}", &digits[..point], &digits[point..])
            }
            _ if (-5..=0).contains(&self.exponent) => {
                let zeros = usize::try_from(-self.exponent).unwrap_or(0);
                write!(f, "{sign}0.{}{digits}", "0".repeat(zeros))
            }
            _ if digits.len() == 1 => write!(f, "{sign}{digits}e{}", self.exponent - 1),
            _ => write!(f, "{sign}{}.{}e{}", &digits[..1], &digits[1..], self.exponent - 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_numbers_are_equal_however_written() {
        for same in
            [["1", "1.0"], ["100", "1e2"], ["-0", "0.000"], ["0.5", "5E-1"], ["1e-7", "0.0000001"]]
        {
            assert_eq!(Decimal::parse(same[0]), Decimal::parse(same[1]), "{same:?}");
        }
    }

    #[test]
    fn order_is_exact_far_beyond_floats() {
        let sorted = [
            "-1e400",
            "-9007199254740993",
            "-9007199254740992",
            "-1.5",
            "-1",
            "-0.1",
            "0",
            "1e-400",
            "0.1",
            "0.10000000000000000000000001",
            "1",
            "9007199254740992",
            "9007199254740993",
            "123456789012345678901234567890",
            "123456789012345678901234567891",
            "1e400",
        ];
        for pair in sorted.windows(2) {
            let (a, b) = (Decimal::parse(pair[0]), Decimal::parse(pair[1]));
            assert!(a < b, "{pair:?}");
            assert!(b > a, "{pair:?}");
            assert!(a != b, "{pair:?}");
            assert!(a.rank() <= b.rank(), "{pair:?}");
        }
    }

    #[test]
    fn one_number_prints_in_one_way() {
        for (text, expected) in [
            ("1.0", "1"),
            ("-12.50", "-12.5"),
            ("0.00", "0"),
            ("1e3", "1000"),
            ("5e-3", "0.005"),
            ("1e30", "1e30"),
            ("-1.25e-9", "-1.25e-9"),
            ("123456789012345678901", "123456789012345678901"),
        ] {
            assert_eq!(Decimal::parse(text).to_string(), expected);
            assert_eq!(Decimal::parse(expected), Decimal::parse(text));
        }
    }
}
