// A model file as the input of a pass: GGUF, and every other container of formats/formats.h.
#pragma once

#include "converters/converters.h"

namespace quern {

// Returns `source` with name and context length from `options`, where they are given.
std::unique_ptr<TensorSource> RenamedSource(std::unique_ptr<TensorSource> source,
                                            const CheckpointOptions& options);

// The row of the table in converters.cc.
extern const ConverterInfo kGgufConverter;

}  // namespace quern
