#include "formats/torch_checkpoint.h"

#include <fmt/format.h>
#include <libdeflate.h>

#include <algorithm>
#include <charconv>
#include <numeric>

#include "formats/core/check.h"
#include "formats/core/error.h"
#include "formats/formats.h"
#include "formats/pickle.h"
#include "formats/strided_read.h"
#include "formats/torch_cut.h"
#include "formats/torch_globals.h"
#include "formats/torch_state_dict.h"

namespace quern {
namespace {

constexpr uint64_t kZipEndBytes = 22;
constexpr std::string_view kResaveHint =
    "load it with a current PyTorch and save it again: "
    "torch.save(torch.load(OLD, weights_only=True), NEW)";

// Throws unless the file begins as a zip archive, and names what it is instead.
void CheckContainer(const RandomAccessBytes& bytes) {
  const std::vector<uint8_t> head =
      bytes.ReadVector(0, std::min<uint64_t>(kDetectBytes, bytes.size_bytes()));
  const auto refuse = [&](std::string_view id, std::string_view what) {
    throw UnsupportedError(id, what).File(Escaped(bytes.name(), 4096)).Hint(kResaveHint);
  };
  const FileKind kind = DetectKind(head, bytes.name());
  if (kind == FileKind::kTorchZip) return;
  if (kind == FileKind::kUnknown && bytes.size_bytes() >= kZipEndBytes) {
    // An archive behind something else: the zip reader says so.
    const auto end = bytes.ReadVector(bytes.size_bytes() - kZipEndBytes, kZipEndBytes);
    if (AsText(end).starts_with("PK\x05\x06")) return;
  }
  if (kind == FileKind::kTorchLegacy) {
    refuse("torch.legacy-format", "checkpoint is in PyTorch's legacy format (before version 1.6)");
  }
  if (kind == FileKind::kTar) {
    refuse("torch.tar-format", "checkpoint is in PyTorch's tar format (before version 0.1.10)");
  }
  if (AsText(head).starts_with("PYTORCH1")) {
    refuse("torch.preview-format", "checkpoint is in a preview format that PyTorch gave up");
  }
  throw WrongKind(kind, head, bytes.name(), "a PyTorch checkpoint");
}

// Returns the archive, or says of one that was cut off what is missing.
ZipArchive OpenArchive(const RandomAccessBytes& bytes) {
  try {
    return ZipArchive::Open(bytes);
  } catch (const Error& error) {
    if (error.id() != "zip.eocd") throw;
    const auto cut = FindTorchCut(bytes);
    if (!cut) throw;
    Error cut_off = DataError("zip.eocd", "file is cut off (no end of central directory record)");
    const std::string where = cut->entry.empty() ? "" : "in entry " + Quoted(cut->entry);
    if (cut->tensor.empty())
      cut_off.Where(where);
    else
      cut_off.Tensor(cut->tensor, where);
    throw cut_off.File(Escaped(bytes.name(), 4096))
        .Offset(bytes.size_bytes())
        .Found(fmt::format("{} bytes", bytes.size_bytes()))
        .Expected(fmt::format("at least {} bytes", cut->expected_bytes))
        .Hint("the download or copy ended early: fetch the file again");
  }
}

// Returns the archive's top folder: what stands before "/data.pkl".
std::string_view FindPrefix(const ZipArchive& archive) {
  constexpr std::string_view kPickleName = "/data.pkl";
  const std::string file = Escaped(archive.bytes().name(), 4096);
  const ZipEntry* found = nullptr;
  for (const ZipEntry& entry : archive.entries()) {
    if (!entry.name.ends_with(kPickleName)) continue;
    if (std::ranges::count(entry.name, '/') != 1) continue;
    if (found != nullptr) {
      throw DataError("torch.ambiguous", "archive has two pickles")
          .File(file)
          .Where("entry " + Quoted(entry.name))
          .Found("entry " + Quoted(found->name) + " too")
          .Hint("the file was packed by hand or made to mislead: fetch it again");
    }
    found = &entry;
  }
  if (found == nullptr) {
    throw DataError("torch.no-data-pkl", "zip archive is no PyTorch checkpoint")
        .File(file)
        .Expected("an entry NAME/data.pkl")
        .Hint("an archive of several files must be unpacked first");
  }
  const std::string_view prefix = found->name.substr(0, found->name.size() - kPickleName.size());
  // PyTorch takes the first entry's folder: another one first is another checkpoint to it.
  const std::string_view first = archive.entries().front().name;
  if (first.substr(0, first.find('/')) != prefix) {
    throw DataError("torch.ambiguous", "archive has two top folders")
        .File(file)
        .Where("entry " + Quoted(first))
        .Expected("a name that begins with " + Quoted(prefix))
        .Hint("the file was packed by hand or made to mislead: fetch it again");
  }
  return prefix;
}

void CheckByteOrder(const ZipArchive& archive, std::string_view prefix, bool verify_crc) {
  const ZipEntry* entry = archive.Find(fmt::format("{}/byteorder", prefix));
  if (entry == nullptr) return;  // Before PyTorch 2.1: little.
  constexpr uint64_t kLongest = 6;
  std::string order = "more than 6 bytes";
  if (entry->size_bytes <= kLongest) order = AsText(archive.Read(*entry, verify_crc));
  if (order == "little") return;
  const bool is_big = order == "big";
  throw Error(is_big ? ErrorCode::kUnsupported : ErrorCode::kData, "torch.byteorder",
              is_big ? "checkpoint was written on a big-endian machine"
                     : "byte order of the checkpoint is not known")
      .File(Escaped(archive.bytes().name(), 4096))
      .Where("entry " + Quoted(entry->name))
      .Found(Quoted(order))
      .Expected("'little'")
      .Hint("load it with PyTorch on a little-endian machine and save it again");
}

// Checks the record "version", where there is one. (PyTorch writes 3; its reader knows 1 to 10.)
void CheckVersion(const ZipArchive& archive, std::string_view prefix, bool verify_crc) {
  const ZipEntry* entry = archive.Find(fmt::format("{}/version", prefix));
  if (entry == nullptr) return;
  constexpr uint64_t kLongest = 8, kNewest = 10;
  std::string text = "more than 8 bytes";
  if (entry->size_bytes <= kLongest) text = AsText(archive.Read(*entry, verify_crc));
  uint64_t version = 0;
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), version);
  const std::string_view rest(end, static_cast<size_t>(text.data() + text.size() - end));
  const bool is_number = failed == std::errc() && (rest.empty() || rest == "\n");
  if (is_number && version >= 1 && version <= kNewest) return;
  const bool is_newer = is_number && version > kNewest;
  throw Error(is_newer ? ErrorCode::kUnsupported : ErrorCode::kData, "torch.version",
              is_newer ? "checkpoint is of a newer format" : "version of the checkpoint is none")
      .File(Escaped(archive.bytes().name(), 4096))
      .Where("entry " + Quoted(entry->name))
      .Found(Quoted(text))
      .Expected(fmt::format("1 to {}", kNewest))
      .Hint("save it again with a PyTorch of today, or look for a newer quern");
}

Pickle ReadPickle(const ZipArchive& archive, std::string_view prefix, bool verify_crc) {
  const ZipEntry& entry = *archive.Find(fmt::format("{}/data.pkl", prefix));
  if (entry.size_bytes > kPickleMaxBytes) {
    throw DataError("pickle.budget", "pickle is larger than any checkpoint's")
        .File(Escaped(archive.bytes().name(), 4096))
        .Where("entry " + Quoted(entry.name))
        .Found(fmt::format("{} bytes", entry.size_bytes))
        .Expected(fmt::format("at most {} bytes", kPickleMaxBytes))
        .Hint("save the weights alone: torch.save(model.state_dict(), FILE)");
  }
  return Pickle::Parse(archive.Read(entry, verify_crc), AllowedTorchGlobals(),
                       archive.bytes().name(), entry.name);
}

}  // namespace

uint64_t TorchTensor::rows() const {
  uint64_t product = 1;
  for (size_t k = 0; k + 1 < shape.size(); ++k) product *= shape[k];
  return product;
}

bool TorchTensor::is_contiguous() const {
  uint64_t step = 1;
  for (size_t k = shape.size(); k-- > 0;) {
    if (shape[k] != 1 && strides[k] != step) return false;
    step *= shape[k];
  }
  return true;
}

TorchCheckpoint TorchCheckpoint::Open(const RandomAccessBytes& bytes,
                                      const TorchOpenOptions& options) {
  CheckContainer(bytes);
  TorchCheckpoint checkpoint(OpenArchive(bytes), options.verify_crc);
  const ZipArchive& archive = checkpoint.archive_;
  const bool verify_crc = checkpoint.verify_crc_;
  const std::string_view prefix = FindPrefix(archive);
  if (archive.Find(fmt::format("{}/constants.pkl", prefix)) != nullptr) {
    throw UnsupportedError("torch.torchscript", "file is a TorchScript program, no checkpoint")
        .File(Escaped(bytes.name(), 4096))
        .Hint("save the weights alone: torch.save(torch.jit.load(FILE).state_dict(), NEW)");
  }
  archive.RequireStored();
  CheckVersion(archive, prefix, verify_crc);
  CheckByteOrder(archive, prefix, verify_crc);
  TorchStateDict state =
      ReadTorchStateDict(ReadPickle(archive, prefix, verify_crc), archive, prefix);
  checkpoint.storages_ = std::move(state.storages);
  checkpoint.tensors_ = std::move(state.tensors);

  const auto& tensors = checkpoint.tensors_;
  auto& by_name = checkpoint.by_name_;
  by_name.resize(tensors.size());
  std::iota(by_name.begin(), by_name.end(), 0u);
  std::ranges::sort(by_name, {}, [&](uint32_t i) -> std::string_view { return tensors[i].name; });
  const auto twice = std::ranges::adjacent_find(
      by_name, [&](uint32_t a, uint32_t b) { return tensors[a].name == tensors[b].name; });
  if (twice != by_name.end()) {
    throw DataError("torch.duplicate-tensor", "two tensors have the same name")
        .File(Escaped(bytes.name(), 4096))
        .Tensor(tensors[*twice].name)
        .Hint("names are compared without what training wrappers put into them");
  }
  checkpoint.sums_ = std::make_unique<Sum[]>(checkpoint.storages_.size());
  return checkpoint;
}

const TorchTensor* TorchCheckpoint::Find(std::string_view tensor_name) const {
  const auto it = std::ranges::lower_bound(
      by_name_, tensor_name, {}, [&](uint32_t i) -> std::string_view { return tensors_[i].name; });
  return it != by_name_.end() && tensors_[*it].name == tensor_name ? &tensors_[*it] : nullptr;
}

void TorchCheckpoint::ReadRows(const TorchTensor& tensor, uint64_t row_begin, uint64_t row_count,
                               MutableByteView out) const {
  QUERN_CHECK(row_begin + row_count <= tensor.rows());
  QUERN_CHECK(out.size() == row_count * tensor.row_bytes());
  if (out.empty()) return;
  const uint64_t begin = row_begin * tensor.row_bytes();
  const bool sums = verify_crc_ && ContinuesSum(tensor, begin);
  if (verify_crc_ && !sums) VerifyStorageCrc(tensor.storage);
  const StridedView view{
      storages_[tensor.storage].file_offset + tensor.storage_offset_elems * tensor.elem_bytes,
      tensor.elem_bytes, tensor.shape, tensor.strides};
  ReadStridedRows(archive_.bytes(), view, row_begin, row_count, out);
  if (sums) AddToSum(tensor.storage, begin, out);
}

bool TorchCheckpoint::ContinuesSum(const TorchTensor& tensor, uint64_t begin) const {
  const bool is_whole_storage = tensor.storage_offset_elems == 0 && tensor.is_contiguous() &&
                                tensor.size_bytes() == storages_[tensor.storage].size_bytes;
  if (!is_whole_storage) return false;
  Sum& sum = sums_[tensor.storage];
  const std::lock_guard lock(sum.mutex);
  return begin <= sum.n_bytes;
}

void TorchCheckpoint::AddToSum(size_t storage, uint64_t begin, ByteView bytes) const {
  Sum& sum = sums_[storage];
  const std::lock_guard lock(sum.mutex);
  // Another thread may have begun the sum anew after a mismatch, or have come further.
  if (sum.verified || begin > sum.n_bytes || begin + bytes.size() <= sum.n_bytes) return;
  const ByteView fresh = bytes.subspan(sum.n_bytes - begin);
  sum.crc32 = libdeflate_crc32(sum.crc32, fresh.data(), fresh.size());
  sum.n_bytes += fresh.size();
  if (sum.n_bytes != storages_[storage].size_bytes) return;
  const uint32_t crc32 = sum.crc32;
  sum.n_bytes = sum.crc32 = 0;  // whoever reads it again is told again
  const ZipEntry& entry = *archive_.Find(storages_[storage].entry);
  NamingTensor(entry, [&] { archive_.CheckCrc(entry, crc32); });
  sum.n_bytes = storages_[storage].size_bytes;
  sum.verified = true;
}

template <typename Check>
void TorchCheckpoint::NamingTensor(const ZipEntry& entry, const Check& check) const {
  try {
    check();
  } catch (Error& error) {
    const auto tensor = std::ranges::find_if(tensors_, [&](const TorchTensor& t) {
      return storages_[t.storage].entry == entry.name;
    });
    if (error.id() == "zip.crc" && tensor != tensors_.end()) {
      error.Tensor(tensor->name, "entry " + Quoted(entry.name));
    }
    throw;
  }
}

void TorchCheckpoint::VerifyCrc(const ZipEntry& entry) const {
  NamingTensor(entry, [&] { archive_.VerifyCrc(entry); });
}

void TorchCheckpoint::VerifyStorageCrc(size_t storage) const {
  if (!has_sums()) return;
  Sum& sum = sums_[storage];
  const std::lock_guard lock(sum.mutex);
  if (sum.verified) return;
  VerifyCrc(*archive_.Find(storages_[storage].entry));
  sum.verified = true;
}

void TorchCheckpoint::VerifyAllCrcs() const {
  if (!has_sums()) return;
  std::vector<const ZipEntry*> entries;
  for (const ZipEntry& entry : archive_.entries()) entries.push_back(&entry);
  std::ranges::sort(entries, {}, [](const ZipEntry* entry) { return entry->data_offset; });
  for (const ZipEntry* entry : entries) VerifyCrc(*entry);
}

}  // namespace quern
