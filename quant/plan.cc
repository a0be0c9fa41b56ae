#include "quant/plan.h"

#include <algorithm>
#include <map>
#include <string>
#include <utility>

#include "formats/core/check.h"
#include "formats/core/error.h"

namespace quern {
namespace {

bool IsMatrix(const TensorInfo& tensor) {
  return tensor.role != TensorRole::kOther && tensor.shape.rank() >= 2;
}

// Returns what `tensor` becomes under `preset`, before shapes and codecs are looked at.
PlanEntry Wanted(const TensorInfo& tensor, const Preset& preset) {
  if (tensor.shape.rank() <= 1) {
    if (tensor.dtype == DType::kF16 || tensor.dtype == DType::kBF16) return {DType::kF32, "1-D"};
    return {tensor.dtype, "1-D"};
  }
  if (!IsMatrix(tensor)) return {tensor.dtype, "not a known weight"};
  if (!preset.type) return {tensor.dtype, "as in the source"};
  return {*preset.type, "matrix"};
}

// Returns `entry`, or the type that takes any row length where its type does not.
PlanEntry Fitted(const TensorInfo& tensor, PlanEntry entry) {
  const BlockLayout& layout = LayoutOf(entry.type);
  if (tensor.cols() % layout.block_elems == 0) return entry;
  return {DType::kF16,
          "rows of " + std::to_string(tensor.cols()) + " do not divide into blocks of " +
              std::to_string(layout.block_elems) + " for " + std::string(layout.name),
          true};
}

void RequireCodecs(const TensorInfo& tensor, DType target, const PlanOptions& options) {
  if (tensor.dtype == target) return;
  const std::string where = "tensor " + Quoted(tensor.name);
  for (const DType type : {tensor.dtype, target}) {
    if (FindCodec(type) != nullptr) continue;
    throw UnsupportedError("quant.no-codec", "this version cannot convert tensors of this type")
        .Where(where)
        .Found(NameOf(type));
  }
  if (!IsFloat(tensor.dtype) && !IsFloat(target) && !options.requantize) {
    throw UnsupportedError("quant.requantize", "the tensor is quantized already")
        .Where(where)
        .Found(NameOf(tensor.dtype))
        .Expected("f32, f16 or bf16, to make " + std::string(NameOf(target)))
        .Hint("start from the original weights, or give --requantize and accept a larger error");
  }
}

// Returns general.file_type for weights that keep their types: that of the type with most weights
// among the matrices; what the source says if that is a quantized type.
std::optional<uint32_t> SourceFileType(const Manifest& manifest) {
  std::map<DType, uint64_t> elems;
  for (const TensorInfo& tensor : manifest.tensors) {
    if (IsMatrix(tensor)) elems[tensor.dtype] += tensor.shape.n_elems();
  }
  const auto most = std::max_element(elems.begin(), elems.end(), [](const auto& a, const auto& b) {
    return a.second < b.second;
  });
  if (most == elems.end() || !IsFloat(most->first)) return manifest.file_type;
  return FindPreset(NameOf(most->first))->file_type;
}

}  // namespace

Manifest QuantPlan::Apply(const Manifest& manifest) const {
  QUERN_CHECK(entries.size() == manifest.tensors.size());
  Manifest out = manifest;
  out.file_type = file_type;
  for (size_t i = 0; i < entries.size(); ++i) out.tensors[i].dtype = entries[i].type;
  return out;
}

QuantPlan MakePlan(const Manifest& manifest, std::string_view preset_name,
                   const PlanOptions& options) {
  const Preset* preset = FindPreset(preset_name);
  if (preset == nullptr) {
    std::string expected;
    for (const Preset& row : AllPresets()) {
      expected += (expected.empty() ? "" : ", ") + std::string(row.name);
    }
    throw Error(ErrorCode::kUsage, "quant.preset", "no such type")
        .Found(Quoted(preset_name))
        .Expected("one of " + expected);
  }
  QuantPlan plan;
  plan.preset = preset->name;
  plan.file_type = preset->type ? preset->file_type : SourceFileType(manifest);
  plan.entries.reserve(manifest.tensors.size());
  for (const TensorInfo& tensor : manifest.tensors) {
    plan.entries.push_back(Fitted(tensor, Wanted(tensor, *preset)));
    RequireCodecs(tensor, plan.entries.back().type, options);
  }
  return plan;
}

}  // namespace quern
