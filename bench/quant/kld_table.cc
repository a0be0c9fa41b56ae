// kld_table [--windows N] [--errors] [--update FILE] [TYPE...]: what every block type costs beside ggml.
//
// Every matrix of the fixture and of stories260K goes into the type, once with quern's encoder
// (effort normal) and once with ggml's (`ggml_quantize_chunk` of the libggml-base.so that
// QUERN_GGML_BASE names); without importance, and with that of 40 windows of
// tests/data/fixture/kjv.txt. Both models are compared with the f32 one over the windows of
// tests/data/fixture/austen.txt. Prints a Markdown table; --update puts it between the marks
// `<!-- kld_table -->` and `<!-- end of kld_table -->` of FILE. --errors leaves the divergences out.
// The exit code is 1 if quern's divergence is larger at 95 %, or the squared error of any tensor,
// weighted with the importance where there is any.
#include <dlfcn.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <fstream>
#include <functional>
#include <iterator>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "converters/converters.h"
#include "formats/core/file.h"
#include "quant/codec.h"
#include "quant/plan.h"
#include "verify/imatrix_collect.h"
#include "verify/perplexity.h"

namespace quern {
namespace {

constexpr std::string_view kData = QUERN_SOURCE_DIR "/tests/data/";

struct Model {
  std::string_view name, folder;
};
constexpr Model kModels[] = {{"fixture", "fixture/meta-2"},
                             {"stories260K", "stories260K/meta-f32"}};

using QuantizeChunk = size_t (*)(int, const float*, void*, int64_t, int64_t, int64_t, const float*);

QuantizeChunk GgmlQuantizer() {
  const char* path = std::getenv("QUERN_GGML_BASE");
  void* library = path != nullptr ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : nullptr;
  void* symbol = library != nullptr ? dlsym(library, "ggml_quantize_chunk") : nullptr;
  if (symbol == nullptr) throw std::runtime_error("QUERN_GGML_BASE names no libggml-base.so");
  return reinterpret_cast<QuantizeChunk>(symbol);
}

// Encodes n_rows rows of n_cols weights as blocks of `type`. `w` is null or has n_cols numbers.
using Encoder = std::vector<uint8_t> (*)(DType type, const std::vector<float>& x, uint64_t n_rows,
                                         uint64_t n_cols, const float* w);

std::vector<uint8_t> EncodeOurs(DType type, const std::vector<float>& x, uint64_t n_rows,
                                uint64_t n_cols, const float* w) {
  std::vector<uint8_t> blocks(n_rows * *RowBytes(type, n_cols));
  FindCodec(type)->encode({x.data(), n_rows, n_cols, w, Effort::kNormal}, blocks.data());
  return blocks;
}

std::vector<uint8_t> EncodeGgmls(DType type, const std::vector<float>& x, uint64_t n_rows,
                                 uint64_t n_cols, const float* w) {
  static const QuantizeChunk quantize = GgmlQuantizer();
  std::vector<uint8_t> blocks(n_rows * *RowBytes(type, n_cols));
  quantize(static_cast<int>(LayoutOf(type).gguf_id), x.data(), blocks.data(), 0,
           static_cast<int64_t>(n_rows), static_cast<int64_t>(n_cols), w);
  return blocks;
}

// Of the columns of a model's matrices, by name.
std::shared_ptr<const Importance> ImportanceFor(const TensorStore& model) {
  const std::string kjv = ReadWholeFile(std::string(kData) + "fixture/kjv.txt", 1 << 24);
  auto importance = std::make_shared<Importance>();
  const CalibrationText text{"kjv.txt", kjv};
  ImatrixOptions options;
  options.chunks = 40;
  CollectedImatrix collected = CollectImatrix(model, {&text, 1}, options);
  for (ImatrixEntry& entry : collected.imatrix.entries) {
    importance->entries.emplace(std::move(entry.name), std::move(entry.values));
  }
  return importance;
}

std::vector<float> Decode(DType type, const std::vector<uint8_t>& blocks) {
  const BlockLayout& layout = LayoutOf(type);
  std::vector<float> x(blocks.size() / layout.block_bytes * layout.block_elems);
  FindCodec(type)->decode(blocks.data(), x.size(), x.data());
  return x;
}

// Returns the mean of `values`, one per window, with its standard error.
Estimate MeanOf(const std::vector<double>& values) {
  const auto n = static_cast<double>(values.size());
  double sum = 0, squares = 0;
  for (const double value : values) sum += value;
  for (const double value : values) squares += std::pow(value - sum / n, 2);
  return {sum / n, std::sqrt(squares / (n - 1) / n)};
}

// A model in memory whose tensors have the types of a plan.
class QuantizedStore final : public TensorStore {
 public:
  QuantizedStore(const TensorStore& source, const QuantPlan& plan, std::string name, Encoder encode)
      : name_(std::move(name)), manifest_(plan.Apply(source.manifest())) {
    for (size_t i = 0; i < manifest_.tensors.size(); ++i) {
      const TensorInfo& from = source.manifest().tensors[i];
      const TensorInfo& to = manifest_.tensors[i];
      std::vector<uint8_t> bytes(from.size_bytes());
      source.ReadRows(i, 0, from.rows(), bytes);
      if (from.dtype != to.dtype) {
        const std::vector<float> x = Decode(from.dtype, bytes);
        const std::vector<float>* weights =
            plan.importance != nullptr ? ImportanceOf(*plan.importance, from) : nullptr;
        const float* w = weights != nullptr ? weights->data() : nullptr;
        bytes = (IsFloat(to.dtype) ? EncodeOurs : encode)(to.dtype, x, to.rows(), to.cols(), w);
        double error = 0;
        const std::vector<float> y = Decode(to.dtype, bytes);
        for (size_t k = 0; k < x.size(); ++k) {
          const double weight = w != nullptr ? static_cast<double>(w[k % to.cols()]) : 1.0;
          error += weight * std::pow(static_cast<double>(x[k]) - static_cast<double>(y[k]), 2);
        }
        if (!IsFloat(to.dtype)) squared_errors_.push_back(error);
      }
      bytes_.push_back(std::move(bytes));
    }
  }
  const Manifest& manifest() const override { return manifest_; }
  const std::string& name() const override { return name_; }
  void ReadRows(size_t tensor, uint64_t begin, uint64_t count, MutableByteView out) const override {
    const uint64_t row_bytes = manifest_.tensors[tensor].row_bytes();
    std::memcpy(out.data(), bytes_[tensor].data() + begin * row_bytes, count * row_bytes);
  }
  // Of each quantized tensor, weighted with the plan's importance.
  const std::vector<double>& squared_errors() const { return squared_errors_; }

 private:
  std::string name_;
  Manifest manifest_;
  std::vector<std::vector<uint8_t>> bytes_;
  std::vector<double> squared_errors_;
};

// One type in one model.
struct Row {
  DType type;
  QuantizedStore ours, theirs;
};

// Returns the rows of `model` and sets `is_worse` where one shows that quern is. Without a text
// there are no divergences.
std::string RowsOf(const Model& model, bool weighted, const std::vector<DType>& types,
                   std::string_view text, const PerplexityOptions& options, bool& is_worse) {
  const auto source = OpenCheckpoint(std::string(kData) + std::string(model.folder));
  const auto importance = weighted ? ImportanceFor(*source) : nullptr;
  std::deque<Row> rows;
  for (const DType type : types) {
    const QuantPlan plan = MakePlan(source->manifest(), NameOf(type),
                                    {.pure = true, .importance = importance});
    // Types that no row of the model divides into fall back to others.
    const bool fits = std::ranges::find(plan.entries, type, &PlanEntry::type) != plan.entries.end();
    if (!fits) continue;
    rows.push_back(
        {type, QuantizedStore(*source, plan, std::string(NameOf(type)) + ", quern", EncodeOurs),
         QuantizedStore(*source, plan, std::string(NameOf(type)) + ", ggml", EncodeGgmls)});
  }
  std::vector<const TensorStore*> stores;
  for (const Row& row : rows) stores.insert(stores.end(), {&row.ours, &row.theirs});
  std::map<std::string, std::vector<double>> kld;  // of each window
  if (!text.empty()) {
    for (const Report& report : ComparePerplexity(stores, source.get(), text, options)) {
      kld[report.model_name] = report.series.kld;
    }
  }
  std::string lines;
  for (const Row& row : rows) {
    double our_error = 0, their_error = 0, worst = 0;
    for (size_t i = 0; i < row.ours.squared_errors().size(); ++i) {
      our_error += row.ours.squared_errors()[i];
      their_error += row.theirs.squared_errors()[i];
      worst = std::max(worst, row.ours.squared_errors()[i] / row.theirs.squared_errors()[i]);
    }
    const std::string errors = fmt::format("{:.3f} | {:.3f} |", our_error / their_error, worst);
    is_worse = is_worse || our_error > their_error || worst > 1;
    const std::string begin = fmt::format("| {} | {} | {} | ", NameOf(row.type), model.name,
                                          weighted ? "yes" : "no");
    if (text.empty()) {
      lines += begin + errors + "\n";
      continue;
    }
    const std::vector<double>& ours = kld.at(row.ours.name());
    const std::vector<double>& theirs = kld.at(row.theirs.name());
    std::vector<double> differences(ours.size());
    std::ranges::transform(ours, theirs, differences.begin(), std::minus());
    const Estimate difference = MeanOf(differences);
    const double margin = 1.96 * difference.standard_error;
    const bool larger = difference.value - margin > 0, smaller = difference.value + margin < 0;
    const double their_kld = MeanOf(theirs).value;
    lines += begin + fmt::format("{:.3g} | {:.3g} | {:+.1f} ± {:.1f} % | {} | {}\n",
                                 MeanOf(ours).value, their_kld, 100 * difference.value / their_kld,
                                 100 * margin / their_kld,
                                 larger    ? "**larger**"
                                 : smaller ? "smaller"
                                           : "equal",
                                 errors);
    is_worse = is_worse || larger;
  }
  return lines;
}

// Replaces what stands between the marks of `path`.
void Update(const std::string& path, const std::string& table) {
  constexpr std::string_view kBegin = "<!-- kld_table -->\n", kEnd = "<!-- end of kld_table -->";
  std::ifstream in(path, std::ios::binary);
  std::string text{std::istreambuf_iterator<char>(in), {}};
  const size_t begin = text.find(kBegin), end = text.find(kEnd);
  if (begin == std::string::npos || end == std::string::npos || end < begin) {
    throw std::runtime_error(path + ": the marks of the table are missing");
  }
  text.replace(begin + kBegin.size(), end - begin - kBegin.size(), table);
  std::ofstream out(path, std::ios::binary);
  out << text;
  out.close();
  if (!out) throw std::runtime_error(path + ": cannot be written");
}

int Run(const std::vector<std::string>& args) {
  PerplexityOptions options;
  std::string update;
  bool errors_only = false;
  std::vector<DType> types;
  for (size_t i = 0; i < args.size(); ++i) {
    const auto type = DTypeFromName(args[i]);
    if (args[i] == "--windows" && i + 1 < args.size()) {
      options.chunks = std::stoul(args[++i]);
    } else if (args[i] == "--update" && i + 1 < args.size()) {
      update = args[++i];
    } else if (args[i] == "--errors") {
      errors_only = true;
    } else if (type) {
      types.push_back(*type);
    } else {
      throw std::runtime_error("usage: kld_table [--windows N] [--errors] [--update FILE] [TYPE...]");
    }
  }
  if (types.empty()) {
    for (const BlockCodec* codec : AllCodecs()) {
      if (!IsFloat(codec->type)) types.push_back(codec->type);
    }
  }
  const std::string text =
      errors_only ? "" : ReadWholeFile(std::string(kData) + "fixture/austen.txt", 1 << 24);
  const std::string_view columns =
      errors_only ? "" : "KLD, quern | KLD, ggml | difference, 95 % | | ";
  std::string table =
      fmt::format("| type | model | imatrix | {}squared error / ggml's | worst tensor |\n", columns);
  table += errors_only ? "|---|---|---|---|---|\n" : "|---|---|---|---|---|---|---|---|---|\n";
  bool is_worse = false;
  for (const bool weighted : {false, true}) {
    for (const Model& model : kModels) {
      table += RowsOf(model, weighted, types, text, options, is_worse);
    }
  }
  std::fputs(table.c_str(), stdout);
  if (!update.empty()) Update(update, table);
  return is_worse ? 1 : 0;
}

}  // namespace
}  // namespace quern

int main(int argc, char** argv) {
  try {
    return quern::Run({argv + 1, argv + argc});
  } catch (const std::exception& error) {
    std::fprintf(stderr, "kld_table: %s\n", error.what());
    return 2;
  }
}
