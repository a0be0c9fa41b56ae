// How a codec's file hands its kernels, compiled for every target, to the table of codecs.
// <hwy/highway.h> is left to that file, since it must come after foreach_target.h.
#pragma once

#include "quant/codec.h"

// For kernels EncodeNAME and DecodeNAME in HWY_NAMESPACE, defines Encode and Decode, which run them
// on the best target of this machine (quant/isa.h), and EncodeStatic, which runs them on the least.
#define QUERN_EXPORT_KERNELS(NAME)                                            \
  HWY_EXPORT(Encode##NAME);                                                   \
  HWY_EXPORT(Decode##NAME);                                                   \
  void Encode(const EncodeInput& in, uint8_t* out) noexcept {                 \
    HWY_DYNAMIC_DISPATCH(Encode##NAME)(in, out);                              \
  }                                                                           \
  void EncodeStatic(const EncodeInput& in, uint8_t* out) noexcept {           \
    HWY_STATIC_DISPATCH(Encode##NAME)(in, out);                               \
  }                                                                           \
  void Decode(const uint8_t* blocks, uint64_t n_elems, float* out) noexcept { \
    HWY_DYNAMIC_DISPATCH(Decode##NAME)(blocks, n_elems, out);                 \
  }                                                                           \
  static_assert(true, "takes a semicolon")
