#include "formats/gguf_metadata.h"

#include <fmt/format.h>

#include <algorithm>

#include "formats/gguf_format.h"
#include "formats/gguf_key_reader.h"
#include "formats/gguf_keys.h"
#include "formats/gguf_spec.h"
#include "formats/gguf_vocabulary.h"

namespace quern {
namespace {

constexpr std::string_view kSplitIndex = "split.no";
constexpr std::string_view kSplitParts = "split.count";
constexpr std::string_view kSplitTensors = "split.tensors.count";

// Returns the value of a key of the whole list, which must have that type; 0 if it is absent.
uint64_t SplitNumber(const std::vector<MetadataEntry>& metadata, std::string_view file,
                     std::string_view key, MetadataType type) {
  const auto it = std::ranges::find(metadata, key, &MetadataEntry::key);
  if (it == metadata.end()) return 0;
  if (it->value.type == type) return it->value.bits();
  throw DataError("gguf.key-type", "value has the wrong type")
      .File(Escaped(file, 4096))
      .Where("key " + Quoted(key))
      .Found(NameOf(it->value.type))
      .Expected(NameOf(type))
      .Hint(kGgufHeaderHint);
}

bool IsQuantized(const TensorInfo& tensor) { return LayoutOf(tensor.dtype).block_elems > 1; }

void CheckQuantizationVersion(KeyReader& keys, const std::vector<TensorInfo>& tensors,
                              std::string_view file) {
  constexpr std::string_view kKey = "general.quantization_version";
  const auto version = keys.Uint(kKey);
  if (!version || *version == kGgufQuantizationVersion ||
      std::ranges::none_of(tensors, IsQuantized))
    return;
  throw UnsupportedError("gguf.quantization-version", "tensors are quantized in an unknown way")
      .File(Escaped(file, 4096))
      .Where("key " + Quoted(kKey))
      .Found(std::to_string(*version))
      .Expected(std::to_string(kGgufQuantizationVersion))
      .Hint("quantize the original checkpoint anew");
}

void TakeArchKeys(KeyReader& keys, const ModelSpec& spec) {
  for (const GgufKey& row : AllGgufKeys()) {
    if (row.part == GgufPart::kArch) keys.Take(spec.arch + "." + std::string(row.key));
  }
  keys.Take(spec.arch + ".rope.scale_linear");
}

}  // namespace

Manifest ManifestFromGguf(std::vector<MetadataEntry> metadata, std::vector<TensorInfo> tensors,
                          std::string_view file) {
  Manifest manifest;
  for (TensorInfo& tensor : tensors) {
    const auto [role, layer] = ParseTensorName(tensor.name);
    tensor.role = role;
    tensor.layer = layer;
  }
  KeyReader keys(metadata, file);
  manifest.name = keys.Text("general.name").value_or("");
  manifest.file_type = keys.Uint("general.file_type");
  manifest.alignment = keys.Uint(kGgufAlignmentKey).value_or(uint32_t{kGgufAlignment});
  manifest.provenance.quern_version = keys.Text("quern.version").value_or("");
  manifest.provenance.source_format = keys.Text("quern.source_format").value_or("");
  manifest.provenance.context_length_source = keys.Text("quern.context_length_source").value_or("");
  CheckQuantizationVersion(keys, tensors, file);
  manifest.tokenizer = ReadGgufVocabulary(keys);
  manifest.spec = ReadSpec(keys, file, tensors, manifest.tokenizer.tokens.size()).spec;
  if (manifest.spec) TakeArchKeys(keys, *manifest.spec);
  for (const GgufKey& row : AllGgufKeys()) {
    const bool stays = row.key == "general.architecture" && !manifest.spec;
    if (row.part == GgufPart::kGeneral && !stays) keys.Take(row.key);
  }
  // Properties of the file, not of the model.
  if (const MetadataValue* value = keys.Find(kGgufTrailerKey)) {
    if (value->type != MetadataType::kUint64) throw keys.BadType(kGgufTrailerKey, "UINT64");
  }
  for (const auto key : {kGgufTrailerKey, kSplitIndex, kSplitParts, kSplitTensors}) keys.Take(key);
  // In place: a second list would double the memory of a file with many keys.
  size_t n_kept = 0;
  for (size_t i = 0; i < metadata.size(); ++i) {
    if (keys.IsTaken(i)) continue;
    if (n_kept != i) metadata[n_kept] = std::move(metadata[i]);
    ++n_kept;
  }
  metadata.resize(n_kept);
  manifest.metadata = std::move(metadata);
  manifest.tensors = std::move(tensors);
  return manifest;
}

std::optional<GgufSplit> SplitOf(const std::vector<MetadataEntry>& metadata,
                                 std::string_view file) {
  const uint64_t index = SplitNumber(metadata, file, kSplitIndex, MetadataType::kUint16);
  const uint64_t n_parts = SplitNumber(metadata, file, kSplitParts, MetadataType::kUint16);
  const uint64_t n_tensors = SplitNumber(metadata, file, kSplitTensors, MetadataType::kInt32);
  if (n_parts <= 1) return std::nullopt;
  if (index >= n_parts || n_tensors > kGgufMaxTensors) {
    throw DataError("gguf.split", "keys of a split model contradict each other")
        .File(Escaped(file, 4096))
        .Found(fmt::format("part {} of {} with {} tensors", index, n_parts,
                           static_cast<int64_t>(n_tensors)))
        .Hint(kGgufHeaderHint);
  }
  return GgufSplit{static_cast<uint32_t>(index), static_cast<uint32_t>(n_parts),
                   static_cast<uint32_t>(n_tensors)};
}

const ModelSpec& RequireSpec(const Manifest& manifest, std::string_view file) {
  if (manifest.spec) return *manifest.spec;
  // What could not be interpreted is in the metadata, so that the reason can be found again.
  std::vector<MetadataEntry> metadata = manifest.metadata;
  KeyReader keys(metadata, file);
  throw *ReadSpec(keys, file, manifest.tensors, manifest.tokenizer.tokens.size()).why_not;
}

}  // namespace quern
