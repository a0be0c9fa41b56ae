// Llama 1 to 3.x: RMSNorm, rotary positions on adjacent pairs, grouped-query attention, SwiGLU.
#pragma once

#include "verify/archs.h"

namespace quern {

extern const ArchInfo kArchLlama;

}  // namespace quern
