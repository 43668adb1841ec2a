//! Logarithm and exponential by additions, multiplications and divisions alone, so that they give
//! the same bits on every machine. Their error is a few units in the last place.

/// `ln 2`, split so that a product of its first part with a small whole number is exact.
const LN2_HIGH: f64 = 0.693_147_180_369_123_8;
const LN2_LOW: f64 = 1.908_214_929_270_587_7e-10;
/// Terms of the series; the next one is below the last place.
const LN_TERMS: u32 = 11;
const EXP_TERMS: u32 = 14;

/// The natural logarithm of a finite number above zero.
#[inline]
pub(super) fn ln(x: f64) -> f64 {
    debug_assert!(x >= f64::MIN_POSITIVE && x.is_finite(), "{x}");
    let bits = x.to_bits();
    let mut exponent = i32::try_from(bits >> 52).expect("eleven bits") - 1023;
    let mut mantissa = f64::from_bits(bits & 0x000F_FFFF_FFFF_FFFF | 0x3FF0_0000_0000_0000);
    if mantissa > std::f64::consts::SQRT_2 {
        mantissa *= 0.5;
        exponent += 1;
    }
    // ln m = 2 (s + s^3 / 3 + s^5 / 5 + ..), |s| <= 0.172
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    let square = s * s;
    let mut sum = 0.0;
    for term in (1..LN_TERMS).rev() {
        sum = (sum + 1.0 / f64::from(2 * term + 1)) * square;
    }
    let exponent = f64::from(exponent);
    exponent * LN2_HIGH + (2.0 * s * (1.0 + sum) + exponent * LN2_LOW)
}

/// `e^x`, for |x| up to 700.
pub(super) fn exp(x: f64) -> f64 {
    assert!(x.abs() <= 700.0, "exp({x}) is no double of use");
    let whole = (x * std::f64::consts::LOG2_E).round();
    let rest = (x - whole * LN2_HIGH) - whole * LN2_LOW;
    let mut sum = 1.0;
    for term in (1..=EXP_TERMS).rev() {
        sum = 1.0 + sum * rest / f64::from(term);
    }
    #[allow(clippy::cast_possible_truncation, reason = "at most 1010, and whole")]
    let power = i64::from(whole as i32) + 1023;
    sum * f64::from_bits(u64::try_from(power).expect("above -1010 + 1023") << 52)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn they_agree_with_the_system_s(x in -600.0f64..600.0, y in 1e-300f64..1e300) {
            prop_assert!((exp(x) / x.exp() - 1.0).abs() < 1e-14, "exp {x}");
            prop_assert!((ln(y) - y.ln()).abs() <= 1e-14 * y.ln().abs().max(1e-2), "ln {y}");
            let near = 1.0 + x / 1e6;
            prop_assert!((ln(near) - near.ln()).abs() < 1e-18 + 1e-15 * near.ln().abs());
        }
    }

    #[test]
    fn the_ends_are_exact() {
        assert!(ln(1.0).abs() < f64::MIN_POSITIVE && (exp(0.0) - 1.0).abs() < f64::MIN_POSITIVE);
    }
}
