#include "verify/integrity.h"

#include <fmt/format.h>

#include <memory>
#include <optional>

#include "formats/core/buffer_pool.h"
#include "formats/core/hash.h"
#include "formats/integrity_trailer.h"
#include "quant/codec.h"

namespace quern {
namespace {

// Rows of one tensor to look at, and what was found there.
struct Band : RowBand {
  BufferPool::Lease buffer;
  ByteView bytes;  // in the buffer; empty where they could not be read
  uint64_t n_bad = 0;
  uint64_t bad_row = 0, bad_col = 0;  // the first
  float bad_value = 0;
  std::optional<Finding> read_fault;
};

void Inspect(const TensorStore& store, BufferPool& pool, Band& band) {
  const TensorInfo& tensor = store.manifest().tensors[band.tensor];
  const uint64_t n_bytes = band.row_count * tensor.row_bytes();
  band.buffer = pool.Acquire(n_bytes, "checking");
  const MutableByteView bytes = band.buffer.bytes().first(n_bytes);
  try {
    store.ReadRows(band.tensor, band.row_begin, band.row_count, bytes);
  } catch (const Error& error) {
    band.read_fault = FindingFrom(error);
    return;
  }
  band.bytes = bytes;
  const uint64_t cols = tensor.cols();
  std::vector<float> row(cols);
  const BlockCodec& codec = *FindCodec(tensor.dtype);
  for (uint64_t r = 0; r < band.row_count; ++r) {
    codec.decode(bytes.data() + r * tensor.row_bytes(), cols, row.data());
    for (uint64_t c = FirstNonFinite(row.data(), cols); c < cols;
         c += 1 + FirstNonFinite(row.data() + c + 1, cols - c - 1)) {
      if (band.n_bad++ == 0) {
        band.bad_row = band.row_begin + r;
        band.bad_col = c;
        band.bad_value = row[c];
      }
    }
  }
}

struct BadValue {
  size_t tensor = 0;
  uint64_t row = 0, col = 0;
  float value = 0;
};

Finding NonFiniteFinding(const TensorStore& store, const BadValue& first, uint64_t n_bad) {
  const StoredPlace place = store.PlaceOf(first.tensor, first.row, first.col);
  Error error = DataError("check.non-finite", fmt::format("{} weights are NaN or infinite", n_bad));
  error.File(Escaped(place.file, 4096))
      .Tensor(store.manifest().tensors[first.tensor].name,
              fmt::format("first at row {}, column {}", first.row, first.col))
      .Found(fmt::format("{}", first.value))
      .Expected("finite values");
  if (place.byte_offset) error.Offset(*place.byte_offset);
  return FindingFrom(error);
}

Finding HashFinding(const TensorStore& store, size_t tensor, uint64_t found, uint64_t expected) {
  const TensorInfo& info = store.manifest().tensors[tensor];
  const StoredPlace place = info.size_bytes() != 0 ? store.PlaceOf(tensor, 0, 0)
                                                   : StoredPlace{store.name(), std::nullopt};
  return FindingFrom(TensorHashError(place.file, info.name, place.byte_offset, found, expected));
}

// Joins the bands of each tensor, which come in order, into findings.
class Collector {
 public:
  explicit Collector(const TensorStore& store) : store_(store), hashes_(store.TensorHashes()) {}

  void Add(const Band& band) {
    if (tensor_ && *tensor_ != band.tensor) Flush();
    if (!tensor_) hash_ = Xxh3Stream();
    tensor_ = band.tensor;
    if (!fault_) fault_ = band.read_fault;
    if (n_bad_ == 0 && band.n_bad != 0) {
      first_bad_ = {band.tensor, band.bad_row, band.bad_col, band.bad_value};
    }
    n_bad_ += band.n_bad;
    if (ExpectedHash(band.tensor)) hash_.Update(band.bytes);
  }
  std::vector<Finding> Take() {
    Flush();
    return std::move(findings_);
  }
  std::optional<uint64_t> ExpectedHash(size_t tensor) const {
    return hashes_.empty() ? std::nullopt : hashes_[tensor];
  }

 private:
  void Flush() {
    if (!tensor_) return;
    if (fault_) {
      // One damaged segment of a QPACK may keep many tensors from being read: said once.
      if (findings_.empty() || findings_.back() != *fault_) findings_.push_back(*fault_);
    } else if (const auto expected = ExpectedHash(*tensor_)) {
      if (const uint64_t hash = hash_.Digest(); hash != *expected) {
        findings_.push_back(HashFinding(store_, *tensor_, hash, *expected));
      }
    }
    if (n_bad_ != 0) findings_.push_back(NonFiniteFinding(store_, first_bad_, n_bad_));
    tensor_.reset();
    fault_.reset();
    n_bad_ = 0;
  }

  const TensorStore& store_;
  const std::vector<std::optional<uint64_t>> hashes_;
  std::vector<Finding> findings_;
  std::optional<size_t> tensor_;  // the current one
  std::optional<Finding> fault_;
  BadValue first_bad_;
  uint64_t n_bad_ = 0;
  Xxh3Stream hash_;
};

}  // namespace

std::vector<Finding> CheckWeights(const TensorStore& store, const IntegrityOptions& options) {
  const std::vector<TensorInfo>& tensors = store.manifest().tensors;
  std::vector<BandedTensor> banded;
  for (size_t i = 0; i < tensors.size(); ++i) {
    if (FindCodec(tensors[i].dtype) == nullptr || tensors[i].cols() == 0) continue;
    banded.push_back(
        {i, tensors[i].rows(), tensors[i].row_bytes(), sizeof(float) * tensors[i].cols()});
  }
  Collector collector(store);
  BufferPool pool(options.memory_bytes);  // has room for all bands that ForEachBand lets live
  ForEachBand("checking", store.name(), banded, options, [&](const RowBand& rows) {
    const auto band = std::make_shared<Band>();
    static_cast<RowBand&>(*band) = rows;
    Inspect(store, pool, *band);
    return [&collector, band] { collector.Add(*band); };
  });
  std::vector<Finding> findings = collector.Take();
  for (size_t i = 0; i < tensors.size(); ++i) {
    const bool is_decoded = FindCodec(tensors[i].dtype) != nullptr;
    if (is_decoded && tensors[i].size_bytes() != 0) continue;
    // Read all the same, for its hash, or for those that its container keeps of its own bytes.
    try {
      const uint64_t hash = store.HashTensor(i);
      const auto expected = collector.ExpectedHash(i);
      if (expected && hash != *expected) {
        findings.push_back(HashFinding(store, i, hash, *expected));
      }
    } catch (const Error& error) {
      findings.push_back(FindingFrom(error));
    }
    if (is_decoded) continue;
    findings.push_back(FindingFrom(
        UnsupportedError("check.not-decoded", "values are not checked: quern cannot decode the type")
            .File(Escaped(store.name(), 4096))
            .Tensor(tensors[i].name)
            .Found(NameOf(tensors[i].dtype)),
        Finding::Severity::kNote));
  }
  return findings;
}

}  // namespace quern
