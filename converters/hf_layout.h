// What the weight files of a Hugging Face folder amount to: the model's tensors in canonical order,
// where each is stored and how its rows are brought into GGUF's order and type.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "converters/faults.h"
#include "converters/hf_config.h"
#include "converters/hf_folder.h"
#include "converters/weight_file.h"
#include "formats/core/model_spec.h"
#include "formats/core/stream.h"
#include "formats/core/tensor.h"

namespace quern {

// A tensor of one of the files.
struct StoredTensor {
  const WeightFile* file = nullptr;
  size_t index = 0;
  const WeightTensor& info() const { return file->tensors()[index]; }
};

struct HfTensor {
  StoredTensor stored;
  // Rows of a head whose two halves are stored one behind the other; 0: rows are as they are
  // wanted.
  uint32_t head_rows = 0;
  // For 8-bit floats: the factors, and how many rows and columns share one.
  std::optional<StoredTensor> scales;
  uint64_t scale_rows = 1, scale_cols = 1;

  // Returns the row of the file that is row `row` of the model.
  uint64_t StoredRow(uint64_t row) const;
};

struct HfLayout {
  ModelSpec spec;
  bool has_embedding = false;       // so that its rows are spec.vocab_size
  std::vector<TensorInfo> tensors;  // canonical order; types as stored, 8-bit floats as f32
  std::vector<HfTensor> sources;    // one per tensor; points into the files
};

// Returns the layout. The configuration and the tensors must agree (but for the vocabulary, which
// the embedding decides with a warning). Everything that keeps the model from being whole is added
// to `faults`, and the layout is then not to be used. Without `is_complete`, files are missing or
// cannot be read: nothing is said of what may be in them.
// Requires: `files`, of the shards of `folder`, outlive the layout.
HfLayout PlanHfLayout(const HfConfig& config, const HfFolder& folder,
                      std::span<const std::unique_ptr<WeightFile>> files, bool is_complete,
                      Faults& faults);

// Copies rows of the model's tensor. May be called from many threads at once.
// Cost: besides `out`, the rows of at most one head, or the rows in 8-bit floats.
// Requires: the rows exist; out has exactly their bytes.
// Throws: as WeightFile::ReadRows.
void ReadHfRows(const HfTensor& tensor, uint64_t begin, uint64_t count, MutableByteView out);

// Returns the file and place of an element.
StoredPlace PlaceOfHf(const HfTensor& tensor, uint64_t row, uint64_t col);

}  // namespace quern
