// The rows of the table in codecs.cc, each defined in the file of its type.
#pragma once

#include "quant/codec.h"

namespace quern {

extern const BlockCodec kCodecF32, kCodecF16, kCodecBF16;  // float_codecs.cc
extern const BlockCodec kCodecQ4_0;                        // q4_0.cc
extern const BlockCodec kCodecQ2K;                         // q2_k.cc
extern const BlockCodec kCodecQ3K;                         // q3_k.cc
extern const BlockCodec kCodecQ4K;                         // q4_k.cc
extern const BlockCodec kCodecQ5K;                         // q5_k.cc
extern const BlockCodec kCodecQ6K;                         // q6_k.cc
extern const BlockCodec kCodecQ4_1;                        // q4_1.cc
extern const BlockCodec kCodecQ5_0;                        // q5_0.cc
extern const BlockCodec kCodecQ5_1;                        // q5_1.cc
extern const BlockCodec kCodecQ8_0;                        // q8_0.cc
extern const BlockCodec kCodecIQ4NL;                       // iq4_nl.cc
extern const BlockCodec kCodecIQ4XS;                       // iq4_xs.cc
extern const BlockCodec kCodecMXFP4;                       // mxfp4.cc

}  // namespace quern
