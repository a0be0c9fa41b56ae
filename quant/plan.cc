#include "quant/plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <utility>

#include "formats/core/check.h"
#include "formats/core/error.h"
#include "formats/core/name_list.h"

namespace quern {
namespace {

constexpr std::pair<std::string_view, TensorRole> kRoleNames[] = {
    {"token_embd", TensorRole::kTokenEmbedding},
    {"attn_q", TensorRole::kAttnQ},
    {"attn_k", TensorRole::kAttnK},
    {"attn_v", TensorRole::kAttnV},
    {"attn_output", TensorRole::kAttnOutput},
    {"ffn_gate", TensorRole::kFfnGate},
    {"ffn_up", TensorRole::kFfnUp},
    {"ffn_down", TensorRole::kFfnDown},
    {"output", TensorRole::kOutput}};

// What a type is replaced by where its blocks do not divide a row.
// Source: llama.cpp, as for the presets.
constexpr std::pair<DType, DType> kFallbacks[] = {
    {DType::kIQ4_XS, DType::kIQ4_NL}, {DType::kQ2_K, DType::kQ4_0}, {DType::kQ3_K, DType::kQ4_0},
    {DType::kQ4_K, DType::kQ5_0},     {DType::kQ5_K, DType::kQ5_1}, {DType::kQ6_K, DType::kQ8_0}};

bool IsMatrix(const TensorInfo& tensor) {
  return tensor.role != TensorRole::kOther && tensor.shape.rank() >= 2;
}

// Returns true if `text` matches `pattern`, in which '*' stands for any run and '?' for any byte.
bool Matches(std::string_view pattern, std::string_view text) {
  size_t p = 0, t = 0, star = std::string_view::npos, resume = 0;
  while (t < text.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      resume = t;
    } else if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == text[t])) {
      ++p;
      ++t;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      t = ++resume;
    } else {
      return false;
    }
  }
  return pattern.find_first_not_of('*', p) == std::string_view::npos;
}

// Vectors keep their own rule, whatever a pattern says.
bool Applies(const TypeOverride& override, const TensorInfo& tensor) {
  if (tensor.shape.rank() <= 1) return false;
  return override.role ? IsMatrix(tensor) && tensor.role == *override.role
                       : Matches(override.pattern, tensor.name);
}

// Decides tensor by tensor; knows what the rules may look at.
class Planner {
 public:
  Planner(const Manifest& manifest, const Preset& preset, const PlanOptions& options)
      : preset_(preset), options_(options) {
    if (manifest.spec) {
      census_.n_layers = manifest.spec->n_layers;
      census_.n_heads = manifest.spec->n_heads;
      census_.n_kv_heads = manifest.spec->n_kv_heads;
    }
    census_.has_importance = options.importance != nullptr;
    census_.has_output = false;
    for (const TensorInfo& tensor : manifest.tensors) {
      census_.has_output = census_.has_output || tensor.role == TensorRole::kOutput;
      layers_[tensor.role].push_back(tensor.layer.value_or(0));
    }
    for (auto& [role, layers] : layers_) std::ranges::sort(layers);
  }

  PlanEntry Entry(const TensorInfo& tensor) const { return Fitted(tensor, Wanted(tensor)); }

 private:
  // Returns what `tensor` becomes, before its shape is looked at.
  PlanEntry Wanted(const TensorInfo& tensor) const {
    if (tensor.shape.rank() <= 1) {
      const bool half = tensor.dtype == DType::kF16 || tensor.dtype == DType::kBF16;
      return {half ? DType::kF32 : tensor.dtype, "1-D"};
    }
    for (const TypeOverride& override : options_.overrides) {
      if (Applies(override, tensor)) return {override.type, override.origin};
    }
    if (!IsMatrix(tensor)) return {tensor.dtype, "not a known weight"};
    if (options_.keep_output && tensor.role == TensorRole::kOutput) {
      return {tensor.dtype, "--keep-output"};
    }
    if (!preset_.type) return {tensor.dtype, "as in the source"};
    if (options_.pure) return {*preset_.type, "--pure"};
    const auto& layers = layers_.at(tensor.role);
    const auto place = std::ranges::lower_bound(layers, tensor.layer.value_or(0));
    return PresetEntry(preset_, census_, tensor, static_cast<uint32_t>(place - layers.begin()),
                       static_cast<uint32_t>(layers.size()));
  }

  // Returns `entry`, or a type that fits where its type does not.
  static PlanEntry Fitted(const TensorInfo& tensor, PlanEntry entry) {
    const BlockLayout& wanted = LayoutOf(entry.type);
    if (tensor.cols() % wanted.block_elems == 0) return entry;
    DType type = entry.type;
    for (const auto& [from, to] : kFallbacks) {
      if (from == entry.type) type = to;
    }
    if (tensor.cols() % LayoutOf(type).block_elems != 0) type = DType::kF16;
    return {type,
            "rows of " + std::to_string(tensor.cols()) + " do not divide into blocks of " +
                std::to_string(wanted.block_elems) + " for " + std::string(wanted.name),
            true};
  }

  const Preset& preset_;
  const PlanOptions& options_;
  ModelCensus census_;
  std::map<TensorRole, std::vector<uint32_t>> layers_;  // sorted, of all tensors of a role
};

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
        .Hint("start from the original weights, or give --requantize: then the errors of both types "
              "add up");
  }
}

// Returns general.file_type for weights that keep their types: that of the type with most weights
// among the matrices; what the source says if that is a quantized type.
std::optional<uint32_t> SourceFileType(const Manifest& manifest) {
  std::map<DType, uint64_t> elems;
  for (const TensorInfo& tensor : manifest.tensors) {
    if (IsMatrix(tensor)) elems[tensor.dtype] += tensor.shape.n_elems();
  }
  const auto most = std::max_element(
      elems.begin(), elems.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
  if (most == elems.end() || !IsFloat(most->first)) return manifest.file_type;
  return FindPreset(NameOf(most->first))->file_type;
}

// A warning names so many, and how many more there are.
constexpr uint64_t kNamesInWarning = 3;

// Appends "WHAT: NAMES" to `warnings` if there are any.
void Tell(std::string_view what, const NameList& names, std::vector<std::string>& warnings) {
  if (!names.empty()) warnings.push_back(std::string(what) + ": " + names.ToString());
}

// Checks all entries that belong to tensors, and says which tensors are quantized without
// importance though there is an imatrix.
void ReviewImportance(const Manifest& manifest, QuantPlan& plan) {
  const Importance& importance = *plan.importance;
  NameList missing(kNamesInWarning), zero(kNamesInWarning), strange(kNamesInWarning);
  uint64_t n_found = 0;
  for (size_t i = 0; i < plan.entries.size(); ++i) {
    const TensorInfo& tensor = manifest.tensors[i];
    const bool weighted = ImportanceOf(importance, tensor) != nullptr;
    const bool listed = importance.entries.contains(tensor.name);
    n_found += listed ? 1 : 0;
    if (weighted || IsFloat(plan.entries[i].type) || tensor.dtype == plan.entries[i].type) continue;
    (listed ? zero : missing).Add(tensor.name);
  }
  if (n_found != importance.entries.size()) {
    std::set<std::string_view> names;
    for (const TensorInfo& tensor : manifest.tensors) names.insert(tensor.name);
    for (const auto& [name, weights] : importance.entries) {
      if (!names.contains(name)) strange.Add(name);
    }
  }
  Tell("not in the imatrix, so quantized unweighted", missing, plan.warnings);
  Tell("only zeros in the imatrix, so quantized unweighted", zero, plan.warnings);
  Tell("in the imatrix but not in the model", strange, plan.warnings);
}

// Says how many tensors lose accuracy a second time, and from which types to which.
void ReviewRequantized(const Manifest& manifest, QuantPlan& plan) {
  std::set<std::string_view> from, to;
  for (size_t i = 0; i < plan.entries.size(); ++i) {
    const DType source = manifest.tensors[i].dtype, target = plan.entries[i].type;
    if (source == target || IsFloat(source) || IsFloat(target)) continue;
    from.insert(NameOf(source));
    to.insert(NameOf(target));
    ++plan.n_requantized;
  }
  if (plan.n_requantized == 0) return;
  plan.warnings.push_back(fmt::format(
      "{} of {} tensors are quantized a second time ({} to {}): the errors add up; quern "
      "diff and perplexity --reference against the original weights tell how much",
      plan.n_requantized, plan.entries.size(), fmt::join(from, ", "), fmt::join(to, ", ")));
}

void ReviewOverrides(const Manifest& manifest, const PlanOptions& options, QuantPlan& plan) {
  NameList idle(kNamesInWarning);
  for (const TypeOverride& override : options.overrides) {
    const bool matches = std::ranges::any_of(
        manifest.tensors, [&](const TensorInfo& tensor) { return Applies(override, tensor); });
    if (!matches) idle.AddPrintable("'" + override.origin + "'");
  }
  Tell("no matrix of the model matches", idle, plan.warnings);
}

}  // namespace

std::optional<TensorRole> FindRole(std::string_view name) {
  for (const auto& [known, role] : kRoleNames) {
    if (known == name) return role;
  }
  return std::nullopt;
}

std::string RoleNames() {
  std::string names;
  for (const auto& [name, role] : kRoleNames) {
    names += (names.empty() ? "" : ", ") + std::string(name);
  }
  return names;
}

Manifest QuantPlan::Apply(const Manifest& manifest) const {
  QUERN_CHECK(entries.size() == manifest.tensors.size());
  Manifest out = manifest;
  out.file_type = file_type;
  for (const MetadataEntry& entry : metadata) {
    std::erase_if(out.metadata, [&](const MetadataEntry& old) { return old.key == entry.key; });
    out.metadata.push_back(entry);
  }
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
  plan.effort = options.effort;
  plan.importance = options.importance;
  plan.entries.reserve(manifest.tensors.size());
  const Planner planner(manifest, *preset, options);
  for (const TensorInfo& tensor : manifest.tensors) {
    plan.entries.push_back(planner.Entry(tensor));
    RequireCodecs(tensor, plan.entries.back().type, options);
  }
  if (plan.importance != nullptr) {
    ReviewImportance(manifest, plan);
  } else if (preset->name == "q2_k_s") {
    plan.warnings.push_back("q2_k_s without an imatrix loses much; give --imatrix");
  }
  ReviewRequantized(manifest, plan);
  ReviewOverrides(manifest, options, plan);
  return plan;
}

}  // namespace quern
