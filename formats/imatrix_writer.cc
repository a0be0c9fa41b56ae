#include "formats/imatrix_writer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <string>
#include <string_view>

#include "formats/core/error.h"
#include "formats/core/manifest.h"
#include "formats/gguf_format.h"
#include "formats/gguf_writer.h"

namespace quern {
namespace {

// Readers take no more for a count.
constexpr double kMaxRows = 9007199254740992;
constexpr std::string_view kSumsSuffix = ".in_sum2";
constexpr std::string_view kCountsSuffix = ".counts";

ByteView BytesOf(const std::vector<float>& values) {
  return {reinterpret_cast<const uint8_t*>(values.data()), values.size() * sizeof(float)};
}

uint32_t ChunkSizeOf(const Imatrix& imatrix) {
  const uint32_t size = imatrix.chunk_size.value_or(kImatrixChunkSize);
  return size == 0 ? kImatrixChunkSize : size;
}

// Returns the rows that each matrix of `entry` saw, or where `in_calls`, the calls of a legacy one.
// Values without any call are means as they stand: of one call.
std::vector<double> RowsSeen(const Imatrix& imatrix, const ImatrixEntry& entry, bool in_calls) {
  std::vector<double> rows(entry.matrix_counts.begin(), entry.matrix_counts.end());
  if (imatrix.is_gguf) return rows;
  for (double& n : rows) n = std::max(n, 1.0) * (in_calls ? 1 : ChunkSizeOf(imatrix));
  return rows;
}

TensorInfo TensorOf(std::string name, uint64_t rows, uint64_t cols) {
  TensorInfo info;
  info.name = std::move(name);
  info.shape = Shape{rows, cols};
  return info;
}

// What a sum of squares may be at most: readers refuse infinities.
float AsFloat(double value) {
  return static_cast<float>(std::min(value, double{std::numeric_limits<float>::max()}));
}

class LegacyEncoder {
 public:
  explicit LegacyEncoder(Output& output) : output_(output) {}
  void PutInt(uint64_t value) {
    constexpr uint64_t kMax = std::numeric_limits<int32_t>::max();
    uint8_t bytes[4];
    StoreLE(bytes, static_cast<int32_t>(std::min(value, kMax)));
    output_.Write(bytes);
  }
  void PutText(std::string_view text) {
    PutInt(text.size());
    output_.Write(AsBytes(text));
  }
  void PutFloats(const std::vector<float>& values) {
    PutInt(values.size());
    output_.Write(BytesOf(values));
  }

 private:
  Output& output_;
};

// Entries of one name, on the way to one.
struct MergedEntry {
  std::vector<double> sums;  // values times rows
  std::vector<double> rows;  // per matrix
};

}  // namespace

void WriteImatrixGguf(const Imatrix& imatrix, std::unique_ptr<Output> output) {
  std::map<std::string_view, const ImatrixEntry*> sorted;
  for (const ImatrixEntry& entry : imatrix.entries) sorted.emplace(entry.name, &entry);

  Manifest manifest;
  MetadataArray datasets{.elem_type = MetadataType::kString, .scalars = {}, .strings = {}};
  datasets.strings = imatrix.datasets;
  manifest.metadata = {{"general.type", MetadataValue::Text("imatrix")},
                       {"imatrix.datasets", {MetadataType::kArray, std::move(datasets)}},
                       {"imatrix.chunk_count", MetadataValue::U32(imatrix.n_chunks.value_or(0))},
                       {"imatrix.chunk_size", MetadataValue::U32(ChunkSizeOf(imatrix))}};
  for (const auto& [name, entry] : sorted) {
    if (name.size() + kSumsSuffix.size() > kGgufMaxTensorNameBytes) {
      throw DataError("imatrix.name", "the name of an entry is too long for the GGUF layout")
          .File(Escaped(output->name(), 4096))
          .Where("entry " + Quoted(name))
          .Found(fmt::format("{} bytes", name.size()))
          .Expected(fmt::format("at most {}", kGgufMaxTensorNameBytes - kSumsSuffix.size()))
          .Hint("write the legacy layout, which takes longer names");
    }
    const uint64_t n_matrices = entry->matrix_counts.size();
    manifest.tensors.push_back(
        TensorOf(std::string(name) + std::string(kCountsSuffix), n_matrices, 1));
    manifest.tensors.push_back(TensorOf(std::string(name) + std::string(kSumsSuffix), n_matrices,
                                        entry->values.size() / n_matrices));
  }
  const auto writer = MakeGgufWriter(std::move(output));
  writer->Begin(manifest);
  size_t tensor = 0;
  for (const auto& [name, entry] : sorted) {
    const std::vector<double> rows = RowsSeen(imatrix, *entry, false);
    const std::vector<float> counts(rows.begin(), rows.end());
    const size_t cols = entry->values.size() / rows.size();
    std::vector<float> sums(entry->values.size());
    for (size_t i = 0; i < sums.size(); ++i) {
      sums[i] = AsFloat(double{entry->values[i]} * rows[i / cols]);
    }
    writer->Put({tensor++, 0, rows.size(), BytesOf(counts)});
    writer->Put({tensor++, 0, rows.size(), BytesOf(sums)});
  }
  writer->Finish();
}

void WriteImatrixLegacy(const Imatrix& imatrix, std::unique_ptr<Output> output) {
  LegacyEncoder out(*output);
  out.PutInt(imatrix.entries.size());
  for (const ImatrixEntry& entry : imatrix.entries) {
    double calls = *std::ranges::max_element(entry.matrix_counts);
    if (imatrix.is_gguf) calls = std::ceil(calls / ChunkSizeOf(imatrix));
    out.PutText(entry.name);
    out.PutInt(static_cast<uint64_t>(calls));
    std::vector<float> values = entry.values;
    if (calls > 1) {
      for (float& value : values) value = AsFloat(double{value} * calls);
    }
    out.PutFloats(values);
  }
  out.PutInt(imatrix.n_chunks.value_or(0));
  std::string datasets;
  for (size_t i = 0; i < imatrix.datasets.size(); ++i) {
    datasets += (i == 0 ? "" : ", ") + std::string(imatrix.datasets[i]);
  }
  out.PutText(datasets);
  output->Commit();
}

Imatrix MergeImatrices(const std::vector<Imatrix>& matrices,
                       const std::vector<std::string>& names) {
  Imatrix merged;
  merged.is_gguf = std::ranges::any_of(matrices, &Imatrix::is_gguf);
  std::map<std::string_view, MergedEntry> by_name;
  uint64_t n_chunks = 0;
  for (size_t i = 0; i < matrices.size(); ++i) {
    const Imatrix& imatrix = matrices[i];
    n_chunks += imatrix.n_chunks.value_or(0);
    if (!merged.chunk_size) merged.chunk_size = imatrix.chunk_size;
    for (size_t d = 0; d < imatrix.datasets.size(); ++d) {
      merged.datasets.push_back(imatrix.datasets[d]);
    }
    for (const ImatrixEntry& entry : imatrix.entries) {
      const std::vector<double> rows = RowsSeen(imatrix, entry, !merged.is_gguf);
      MergedEntry& sum = by_name[entry.name];
      if (sum.sums.empty()) {
        sum.sums.resize(entry.values.size());
        sum.rows.resize(rows.size());
      }
      if (sum.sums.size() != entry.values.size() || sum.rows.size() != rows.size()) {
        throw DataError("imatrix.values", "two importance matrices do not belong to one model")
            .File(Escaped(names[i], 4096))
            .Where("entry " + Quoted(entry.name))
            .Found(fmt::format("{} values in {} matrices", entry.values.size(), rows.size()))
            .Expected(fmt::format("{} in {}, as in the files before it", sum.sums.size(),
                                  sum.rows.size()))
            .Hint("merge matrices of the same model only");
      }
      const size_t cols = entry.values.size() / rows.size();
      for (size_t c = 0; c < entry.values.size(); ++c) {
        sum.sums[c] += double{entry.values[c]} * rows[c / cols];
      }
      for (size_t m = 0; m < rows.size(); ++m) sum.rows[m] += rows[m];
    }
  }
  merged.n_chunks = static_cast<uint32_t>(std::min<uint64_t>(n_chunks, UINT32_MAX));
  for (auto& [name, sum] : by_name) {
    ImatrixEntry entry;
    entry.name = name;
    for (double& rows : sum.rows) rows = std::min(rows, kMaxRows);
    entry.matrix_counts.assign(sum.rows.begin(), sum.rows.end());
    entry.count = static_cast<uint64_t>(*std::ranges::max_element(sum.rows));
    const size_t cols = sum.sums.size() / sum.rows.size();
    entry.all_zero = true;
    for (size_t c = 0; c < sum.sums.size(); ++c) {
      const double rows = sum.rows[c / cols];
      entry.values.push_back(rows > 0 ? AsFloat(sum.sums[c] / rows) : 1.0f);
      if (entry.values.back() != 0) entry.all_zero = false;
    }
    merged.entries.push_back(std::move(entry));
  }
  return merged;
}

}  // namespace quern
