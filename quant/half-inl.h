// The SIMD twin of formats/core/half.h: the same bits for every input, on every target.
//
// Highway 1.0.3's own DemoteTo truncates where the CPU has no conversion instruction, hence the
// integer paths.

// Per-target include guard.
#if defined(QUERN_QUANT_HALF_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef QUERN_QUANT_HALF_INL_H_
#undef QUERN_QUANT_HALF_INL_H_
#else
#define QUERN_QUANT_HALF_INL_H_
#endif

#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace quern {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// True where the CPU converts binary16 itself (F16C, NEON).
#if (HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX2) || HWY_TARGET == HWY_NEON
inline constexpr bool kHasF16 = true;
#else
inline constexpr bool kHasF16 = false;
#endif

// Returns the binary16 numbers `h` (in the low halves of 32-bit lanes) as floats.
template <class D, class DU = hn::RebindToUnsigned<D>>
HWY_INLINE hn::Vec<D> F32FromF16Bits(D d, hn::Vec<DU> h) {
  const DU du;
  const hn::RebindToSigned<D> di;
  const auto magnitude = hn::And(h, hn::Set(du, 0x7FFFu));
  const auto sign = hn::ShiftLeft<16>(hn::And(h, hn::Set(du, 0x8000u)));
  const auto shifted = hn::ShiftLeft<13>(magnitude);
  const auto normal = hn::Add(shifted, hn::Set(du, 0x38000000u));
  const auto subnormal = hn::BitCast(
      du, hn::Mul(hn::ConvertTo(d, hn::BitCast(di, magnitude)), hn::Set(d, 0x1p-24f)));
  // Infinity keeps its zero mantissa; a NaN becomes quiet.
  const auto is_nan = hn::Gt(hn::BitCast(di, magnitude), hn::Set(di, 0x7C00));
  const auto quiet = hn::IfThenElseZero(hn::RebindMask(du, is_nan), hn::Set(du, 0x00400000u));
  const auto special = hn::Or(hn::Or(shifted, hn::Set(du, 0x7F800000u)), quiet);
  const auto is_subnormal = hn::Lt(hn::BitCast(di, magnitude), hn::Set(di, 0x0400));
  const auto is_special = hn::Gt(hn::BitCast(di, magnitude), hn::Set(di, 0x7BFF));
  auto bits = hn::IfThenElse(hn::RebindMask(du, is_subnormal), subnormal, normal);
  bits = hn::IfThenElse(hn::RebindMask(du, is_special), special, bits);
  return hn::BitCast(d, hn::Or(bits, sign));
}

// Returns `f` rounded to binary16, ties to even, in the low halves of 32-bit lanes.
template <class D, class DU = hn::RebindToUnsigned<D>>
HWY_INLINE hn::Vec<DU> F16BitsFromF32(D d, hn::Vec<D> f) {
  const DU du;
  const hn::RebindToSigned<D> di;
  const auto bits = hn::BitCast(du, f);
  const auto sign = hn::And(hn::ShiftRight<16>(bits), hn::Set(du, 0x8000u));
  const auto magnitude = hn::And(bits, hn::Set(du, 0x7FFFFFFFu));
  const auto signed_magnitude = hn::BitCast(di, magnitude);
  // Rebias the exponent and add just under half a unit, half a unit where the kept part is odd.
  const auto odd = hn::And(hn::ShiftRight<13>(magnitude), hn::Set(du, 1u));
  const auto normal =
      hn::ShiftRight<13>(hn::Add(hn::Sub(magnitude, hn::Set(du, 0x38000000u - 0xFFFu)), odd));
  // Adding 1/2, whose unit is 2^-24, lets the hardware round to binary16's subnormal unit.
  const auto sum = hn::Add(hn::BitCast(d, magnitude), hn::Set(d, 0.5f));
  const auto subnormal = hn::Sub(hn::BitCast(du, sum), hn::Set(du, 0x3F000000u));
  const auto is_subnormal = hn::Lt(signed_magnitude, hn::Set(di, 0x38800000));
  const auto is_infinite = hn::Gt(signed_magnitude, hn::Set(di, 0x477FEFFF));
  const auto is_nan = hn::Gt(signed_magnitude, hn::Set(di, 0x7F800000));
  auto half = hn::IfThenElse(hn::RebindMask(du, is_subnormal), subnormal, normal);
  half = hn::IfThenElse(hn::RebindMask(du, is_infinite), hn::Set(du, 0x7C00u), half);
  half = hn::IfThenElse(hn::RebindMask(du, is_nan), hn::Set(du, 0x7E00u), half);
  return hn::Or(half, sign);
}

// Loads Lanes(d) binary16 numbers from `p`, which need not be aligned, as floats.
template <class D>
HWY_INLINE hn::Vec<D> LoadF16(D d, const uint16_t* HWY_RESTRICT p) {
  const hn::Rebind<uint16_t, D> d16;
  const auto h = hn::LoadU(d16, p);
  if constexpr (kHasF16) {
    const hn::Rebind<hwy::float16_t, D> df16;
    return hn::PromoteTo(d, hn::BitCast(df16, h));
  } else {
    const hn::RebindToUnsigned<D> du;
    return F32FromF16Bits(d, hn::PromoteTo(du, h));
  }
}

// Stores `f` rounded to binary16, ties to even, to `p`, which need not be aligned.
template <class D>
HWY_INLINE void StoreF16(D d, hn::Vec<D> f, uint16_t* HWY_RESTRICT p) {
  const hn::Rebind<uint16_t, D> d16;
  if constexpr (kHasF16) {
    // The CPU keeps a NaN's payload, half.h does not: give it the canonical one first.
    const hn::RebindToUnsigned<D> du;
    const auto sign = hn::And(hn::BitCast(du, f), hn::Set(du, 0x80000000u));
    const auto nan = hn::BitCast(d, hn::Or(sign, hn::Set(du, 0x7FC00000u)));
    const auto canonical = hn::IfThenElse(hn::Eq(f, f), f, nan);
    const hn::Rebind<hwy::float16_t, D> df16;
    hn::StoreU(hn::BitCast(d16, hn::DemoteTo(df16, canonical)), d16, p);
  } else {
    const hn::RebindToSigned<D> di;
    hn::StoreU(hn::DemoteTo(d16, hn::BitCast(di, F16BitsFromF32(d, f))), d16, p);
  }
}

// Returns `f` rounded to binary16 and back.
template <class D>
HWY_INLINE hn::Vec<D> RoundToF16(D d, hn::Vec<D> f) {
  if constexpr (kHasF16) {
    const hn::Rebind<hwy::float16_t, D> df16;
    return hn::PromoteTo(d, hn::DemoteTo(df16, f));
  } else {
    return F32FromF16Bits(d, F16BitsFromF32(d, f));
  }
}

// Loads Lanes(d) bfloat16 numbers from `p`, which need not be aligned, as floats.
template <class D>
HWY_INLINE hn::Vec<D> LoadBF16(D d, const uint16_t* HWY_RESTRICT p) {
  const hn::Rebind<uint16_t, D> d16;
  const hn::RebindToUnsigned<D> du;
  return hn::BitCast(d, hn::ShiftLeft<16>(hn::PromoteTo(du, hn::LoadU(d16, p))));
}

// Stores `f` rounded to bfloat16, ties to even, to `p`, which need not be aligned.
template <class D>
HWY_INLINE void StoreBF16(D /*d*/, hn::Vec<D> f, uint16_t* HWY_RESTRICT p) {
  const hn::Rebind<uint16_t, D> d16;
  const hn::RebindToUnsigned<D> du;
  const hn::RebindToSigned<D> di;
  const auto bits = hn::BitCast(du, f);
  const auto upper = hn::ShiftRight<16>(bits);
  const auto odd = hn::And(upper, hn::Set(du, 1u));
  const auto rounded = hn::ShiftRight<16>(hn::Add(hn::Add(bits, hn::Set(du, 0x7FFFu)), odd));
  const auto quiet = hn::Or(upper, hn::Set(du, 64u));
  // Not Ne(f, f): that is an ordered comparison on AVX2 and AVX3, false for a NaN.
  const auto is_number = hn::Eq(f, f);
  const auto half = hn::IfThenElse(hn::RebindMask(du, is_number), rounded, quiet);
  hn::StoreU(hn::DemoteTo(d16, hn::BitCast(di, half)), d16, p);
}

}  // namespace HWY_NAMESPACE
}  // namespace quern
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
