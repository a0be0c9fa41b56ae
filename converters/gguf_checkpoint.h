// A model file as the input of a pass: GGUF, and every other container of formats/formats.h.
#pragma once

#include "converters/converters.h"

namespace quern {

// The row of the table in converters.cc.
extern const ConverterInfo kGgufConverter;

}  // namespace quern
