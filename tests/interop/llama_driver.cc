// What unmodified llama.cpp says: a small program over llama.h, built by fetch_llama.sh against
// npm's prebuilt libraries. It is a peer for tests and no part of quern.
//
//   llama_driver load GGUF                       loads all weights, checks them, prints one line
//   llama_driver tokenize GGUF [special]         texts from stdin, one line of ids each; with
//   `special` the
//                                                vocabulary's own BOS and EOS are added
//   llama_driver perplexity GGUF TEXT CTX [CHUNKS]
//                                                llama-perplexity's protocol, one line per window
//                                                and the estimate
//   llama_driver logits GGUF < ids               raw f32 logits of every position to stdout
//   llama_driver quantize-chunk TYPE COLS [IMPORTANCE]
//                                                raw f32 rows from stdin to blocks on stdout;
//                                                IMPORTANCE is a file of COLS raw f32
//   llama_driver dequantize TYPE                 blocks from stdin to raw f32 on stdout
//   llama_driver quantize-model IN OUT TYPE[+pure][+keep-output] THREADS [imatrix|IMATRIX]
//                                                llama-quantize: a whole GGUF to another type; with
//                                                OUT "-" only the plan, one line "NAME TYPE" per
//                                                tensor; with `imatrix` every matrix has an
//                                                importance of ones, with a file of the GGUF
//                                                layout that of the file
//   llama_driver imatrix GGUF TEXT CTX IMATRIX   llama-imatrix beside the file IMATRIX of the GGUF
//                                                layout: sums of squares of what the matrices of
//                                                the layers were multiplied with, and the largest
//                                                relative difference of any column
//
//   llama_driver save-logits GGUF TEXT CTX FILE [CHUNKS]
//                                                llama-perplexity --kl-divergence-base FILE
//   llama_driver kl-divergence GGUF FILE         llama-perplexity --kl-divergence, one line per
//                                                statistic: NAME VALUE [ERROR]
//
// Texts are separated by lines `__ggml_vocab_test__`, as in llama.cpp's vocabulary vectors.
// QUERN_LLAMA_THREADS=N uses N threads instead of one.
// QUERN_LLAMA_KV=f32 keeps the KV cache in f32 (llama.cpp's default is f16).
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iostream>
#include <iterator>
#include <list>
#include <map>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <ggml-backend.h>
#include <ggml.h>
#include <gguf.h>
#include <llama.h>

namespace {

using Model = std::unique_ptr<llama_model, decltype(&llama_model_free)>;
using Context = std::unique_ptr<llama_context, decltype(&llama_free)>;

[[noreturn]] void Fail(const std::string& message) { throw std::runtime_error(message); }

std::string ReadAll(std::istream& in) { return {std::istreambuf_iterator<char>(in), {}}; }

std::string ReadFile(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) Fail(path + ": cannot be opened");
  return ReadAll(in);
}

void WriteAll(const void* data, size_t n_bytes) {
  if (std::fwrite(data, 1, n_bytes, stdout) != n_bytes) Fail("stdout: short write");
}

std::vector<float> FloatsOf(const std::string& bytes) {
  if (bytes.size() % sizeof(float) != 0) Fail("input is no whole number of f32");
  std::vector<float> values(bytes.size() / sizeof(float));
  std::copy(bytes.begin(), bytes.end(), reinterpret_cast<char*>(values.data()));
  return values;
}

ggml_type TypeOf(std::string_view name) {
  for (int i = 0; i < GGML_TYPE_COUNT; ++i) {
    const auto type = static_cast<ggml_type>(i);
    const char* type_name = ggml_type_name(type);
    if (type_name != nullptr && name == type_name) return type;
  }
  Fail("unknown type " + std::string(name));
}

Model LoadModel(const std::string& path, bool vocab_only) {
  llama_model_params params = llama_model_default_params();
  params.vocab_only = vocab_only;
  params.check_tensors = !vocab_only;
  params.n_gpu_layers = 0;
  Model model(llama_model_load_from_file(path.c_str(), params), llama_model_free);
  if (!model) Fail(path + ": llama.cpp refuses it");
  return model;
}

Context MakeContext(llama_model* model, uint32_t n_ctx,
                    ggml_backend_sched_eval_callback observe = nullptr, void* observer = nullptr) {
  llama_context_params params = llama_context_default_params();
  params.cb_eval = observe;
  params.cb_eval_user_data = observer;
  params.n_ctx = n_ctx;
  params.n_batch = n_ctx;
  params.n_ubatch = std::min<uint32_t>(n_ctx, 512);
  // ggml's threads spin while they wait for each other, which is slow where other tests run beside
  // it.
  const char* threads = std::getenv("QUERN_LLAMA_THREADS");
  params.n_threads = params.n_threads_batch = threads != nullptr ? std::atoi(threads) : 1;
  const char* kv = std::getenv("QUERN_LLAMA_KV");
  if (kv != nullptr && kv == std::string_view("f32")) {
    params.type_k = params.type_v = GGML_TYPE_F32;
    // The fused kernel rounds what it multiplies.
    params.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_DISABLED;
  }
  Context context(llama_init_from_model(model, params), llama_free);
  if (!context) Fail("no context of " + std::to_string(n_ctx) + " tokens");
  return context;
}

std::vector<llama_token> Tokenize(const llama_vocab* vocab, std::string_view text,
                                  bool add_special) {
  std::vector<llama_token> tokens(text.size() + 16);
  const int32_t n =
      llama_tokenize(vocab, text.data(), static_cast<int32_t>(text.size()), tokens.data(),
                     static_cast<int32_t>(tokens.size()), add_special, false);
  if (n < 0) Fail("llama_tokenize failed");
  tokens.resize(static_cast<size_t>(n));
  return tokens;
}

// Evaluates `tokens` from an empty cache, with logits at every position from `first` on.
void Decode(llama_context* context, const std::vector<llama_token>& tokens, size_t first) {
  llama_memory_clear(llama_get_memory(context), true);
  llama_batch batch = llama_batch_init(static_cast<int32_t>(tokens.size()), 0, 1);
  batch.n_tokens = static_cast<int32_t>(tokens.size());
  for (size_t i = 0; i < tokens.size(); ++i) {
    batch.token[i] = tokens[i];
    batch.pos[i] = static_cast<llama_pos>(i);
    batch.n_seq_id[i] = 1;
    batch.seq_id[i][0] = 0;
    batch.logits[i] = i >= first;
  }
  const int32_t code = llama_decode(context, batch);
  llama_batch_free(batch);
  if (code != 0) Fail("llama_decode returned " + std::to_string(code));
}

// Returns -log softmax(logits)[target].
double NegativeLogLikelihood(const float* logits, size_t n_vocab, llama_token target) {
  const float max = *std::max_element(logits, logits + n_vocab);
  double sum = 0;
  for (size_t i = 0; i < n_vocab; ++i) sum += std::exp(logits[i] - max);
  return std::log(sum) - static_cast<double>(logits[target] - max);
}

void Load(const std::string& path) {
  const Model model = LoadModel(path, false);
  char description[128] = "";
  llama_model_desc(model.get(), description, sizeof description);
  std::printf("loaded: %s, %llu parameters, %llu bytes, %d tokens\n", description,
              static_cast<unsigned long long>(llama_model_n_params(model.get())),
              static_cast<unsigned long long>(llama_model_size(model.get())),
              llama_vocab_n_tokens(llama_model_get_vocab(model.get())));
}

void TokenizeTexts(const std::string& path, bool add_special) {
  const std::string separator = "\n__ggml_vocab_test__\n";
  const Model model = LoadModel(path, true);
  const llama_vocab* vocab = llama_model_get_vocab(model.get());
  const std::string input = ReadAll(std::cin);
  for (size_t begin = 0; begin < input.size();) {
    const size_t end = std::min(input.find(separator, begin), input.size());
    for (const llama_token id :
         Tokenize(vocab, std::string_view(input).substr(begin, end - begin), add_special)) {
      std::printf(" %d", id);
    }
    std::printf("\n");
    begin = end + separator.size();
  }
}

// llama-perplexity's protocol: whole windows of `n_ctx` tokens, BOS in place of each window's first
// token, the second half scored.
void Perplexity(const std::string& path, const std::string& text_path, uint32_t n_ctx,
                size_t max_windows) {
  const Model model = LoadModel(path, false);
  const llama_vocab* vocab = llama_model_get_vocab(model.get());
  const Context context = MakeContext(model.get(), n_ctx);
  const std::vector<llama_token> tokens = Tokenize(vocab, ReadFile(text_path), true);
  const auto n_vocab = static_cast<size_t>(llama_vocab_n_tokens(vocab));
  const size_t n_windows = std::min(tokens.size() / n_ctx, max_windows);
  const size_t first = n_ctx / 2;
  double sum = 0, sum_squares = 0;
  size_t count = 0;
  const auto start = std::chrono::steady_clock::now();
  for (size_t w = 0; w < n_windows; ++w) {
    const auto begin = tokens.begin() + static_cast<std::ptrdiff_t>(w * n_ctx);
    const std::vector<llama_token> targets(begin, begin + static_cast<std::ptrdiff_t>(n_ctx));
    std::vector<llama_token> window = targets;
    if (llama_vocab_get_add_bos(vocab)) window[0] = llama_vocab_bos(vocab);
    Decode(context.get(), window, first);
    double window_sum = 0;
    for (size_t p = first; p + 1 < n_ctx; ++p) {
      const float* logits = llama_get_logits_ith(context.get(), static_cast<int32_t>(p));
      const double nll = NegativeLogLikelihood(logits, n_vocab, targets[p + 1]);
      window_sum += nll;
      sum_squares += nll * nll;
    }
    sum += window_sum;
    count += n_ctx - 1 - first;
    std::printf("window %zu nll %.9f\n", w, window_sum / static_cast<double>(n_ctx - 1 - first));
  }
  if (count < 2) Fail("too little text");
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  const auto n = static_cast<double>(count);
  const double mean = sum / n;
  const double variance = std::max(0.0, sum_squares / n - mean * mean);
  std::printf("tokens %zu windows %zu scored %zu\n", tokens.size(), n_windows, count);
  std::printf("perplexity %.6f +/- %.6f\n", std::exp(mean),
              std::exp(mean) * std::sqrt(variance / (n - 1)));
  std::printf("seconds %.3f\n", seconds.count());
}

// A base-logits file as llama-perplexity lays it out: a row of n_vocab codes and two floats, in u16.
size_t LogitsRowSize(size_t n_vocab) { return 2 * ((n_vocab + 1) / 2) + 4; }

// Writes one row as llama-perplexity rounds it.
void EncodeRow(const float* logits, size_t n_vocab, uint16_t* row) {
  float max = logits[0], min = logits[0];
  for (size_t i = 0; i < n_vocab; ++i) {
    max = std::max(max, logits[i]);
    min = std::min(min, logits[i]);
  }
  min = std::max(min, max - 16);
  double sum = 0;
  for (size_t i = 0; i < n_vocab; ++i) sum += std::exp(logits[i] - max);
  const float scale = (max - min) / 65535.0f;
  const float min_log_p = min - max - static_cast<float>(std::log(sum));
  std::memcpy(row, &scale, sizeof scale);
  std::memcpy(row + 2, &min_log_p, sizeof min_log_p);
  for (size_t i = 0; i < n_vocab; ++i) {
    const bool above = logits[i] > min && scale > 0;
    row[4 + i] = above ? static_cast<uint16_t>(std::lrint((logits[i] - min) / scale)) : 0;
  }
}

void SaveLogits(const std::string& path, const std::string& text_path, uint32_t n_ctx,
                const std::string& file, size_t max_windows) {
  const Model model = LoadModel(path, false);
  const llama_vocab* vocab = llama_model_get_vocab(model.get());
  const Context context = MakeContext(model.get(), n_ctx);
  const std::vector<llama_token> tokens = Tokenize(vocab, ReadFile(text_path), true);
  const auto n_vocab = static_cast<size_t>(llama_vocab_n_tokens(vocab));
  const size_t n_windows = std::min(tokens.size() / n_ctx, max_windows);
  std::ofstream out(file, std::ios::binary);
  const auto write = [&](const void* data, size_t n_bytes) {
    out.write(static_cast<const char*>(data), static_cast<std::streamsize>(n_bytes));
  };
  const int32_t numbers[] = {static_cast<int32_t>(n_ctx), static_cast<int32_t>(n_vocab),
                             static_cast<int32_t>(n_windows)};
  write("_logits_", 8);
  write(numbers, sizeof numbers);
  write(tokens.data(), n_windows * n_ctx * sizeof(llama_token));
  std::vector<uint16_t> row(LogitsRowSize(n_vocab));
  const size_t first = n_ctx / 2;
  for (size_t w = 0; w < n_windows; ++w) {
    const auto begin = tokens.begin() + static_cast<std::ptrdiff_t>(w * n_ctx);
    std::vector<llama_token> window(begin, begin + static_cast<std::ptrdiff_t>(n_ctx));
    if (llama_vocab_get_add_bos(vocab)) window[0] = llama_vocab_bos(vocab);
    Decode(context.get(), window, first);
    for (size_t p = first; p + 1 < n_ctx; ++p) {
      EncodeRow(llama_get_logits_ith(context.get(), static_cast<int32_t>(p)), n_vocab, row.data());
      write(row.data(), row.size() * sizeof(uint16_t));
    }
  }
  if (!out.flush()) Fail(file + ": write failed");
}

// Mean and its error, predictions taken as independent.
struct Mean {
  double sum = 0, squares = 0, n = 0;
  void Add(double x) {
    sum += x;
    squares += x * x;
    ++n;
  }
  double value() const { return sum / n; }
  double error() const {
    const double variance = squares / n - value() * value();
    return n > 10 && variance > 0 ? std::sqrt(variance / (n - 1)) : 0;
  }
};

double PercentileOf(const std::vector<double>& sorted, double fraction) {
  const double at = fraction * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<size_t>(at);
  if (below + 1 >= sorted.size()) return sorted.back();
  const double share = at - static_cast<double>(below);
  return (1 - share) * sorted[below] + share * sorted[below + 1];
}

void PrintPercentiles(const char* name, std::vector<double> values) {
  std::sort(values.begin(), values.end());
  for (const double percent : {0.1, 1.0, 5.0, 10.0, 50.0, 90.0, 95.0, 99.0, 99.9}) {
    std::printf("%s_%g %.9g\n", name, percent, PercentileOf(values, percent / 100));
  }
  std::printf("%s_min %.9g\n%s_max %.9g\n", name, values.front(), name, values.back());
}

void KlDivergence(const std::string& path, const std::string& file) {
  const Model model = LoadModel(path, false);
  const llama_vocab* vocab = llama_model_get_vocab(model.get());
  const auto n_vocab = static_cast<size_t>(llama_vocab_n_tokens(vocab));
  std::ifstream in(file, std::ios::binary);
  const auto read = [&](void* data, size_t n_bytes) {
    if (!in.read(static_cast<char*>(data), static_cast<std::streamsize>(n_bytes))) {
      Fail(file + ": ends early");
    }
  };
  char magic[8];
  int32_t numbers[3];
  read(magic, sizeof magic);
  read(numbers, sizeof numbers);
  if (std::string_view(magic, 8) != "_logits_") Fail(file + ": no base-logits file");
  const auto n_ctx = static_cast<size_t>(numbers[0]), n_windows = static_cast<size_t>(numbers[2]);
  if (static_cast<size_t>(numbers[1]) != n_vocab) Fail(file + ": another vocabulary");
  std::vector<llama_token> tokens(n_ctx * n_windows);
  read(tokens.data(), tokens.size() * sizeof(llama_token));
  const Context context = MakeContext(model.get(), static_cast<uint32_t>(n_ctx));
  std::vector<uint16_t> row(LogitsRowSize(n_vocab));
  std::vector<double> klds, deltas;
  Mean nll, base, product, kld, delta, delta2;
  double n_same = 0;
  const size_t first = n_ctx / 2;
  for (size_t w = 0; w < n_windows; ++w) {
    const llama_token* text = tokens.data() + w * n_ctx;
    std::vector<llama_token> window(text, text + n_ctx);
    if (llama_vocab_get_add_bos(vocab)) window[0] = llama_vocab_bos(vocab);
    Decode(context.get(), window, first);
    for (size_t p = first; p + 1 < n_ctx; ++p) {
      read(row.data(), row.size() * sizeof(uint16_t));
      float scale = 0, min_log_p = 0;
      std::memcpy(&scale, row.data(), sizeof scale);
      std::memcpy(&min_log_p, row.data() + 2, sizeof min_log_p);
      const float* logits = llama_get_logits_ith(context.get(), static_cast<int32_t>(p));
      const size_t top =
          static_cast<size_t>(std::max_element(logits, logits + n_vocab) - logits);
      double sum = 0;
      for (size_t i = 0; i < n_vocab; ++i) sum += std::exp(double{logits[i] - logits[top]});
      const double log_sum = std::log(sum);
      double divergence = 0;
      size_t base_top = 0;
      for (size_t i = 0; i < n_vocab; ++i) {
        const float base_log_p = scale * static_cast<float>(row[4 + i]) + min_log_p;
        if (row[4 + i] > row[4 + base_top]) base_top = i;
        if (base_log_p <= -16) continue;
        const double log_q = double{logits[i] - logits[top]} - log_sum;
        divergence += std::exp(double{base_log_p}) * (double{base_log_p} - log_q);
      }
      const auto target = static_cast<size_t>(text[p + 1]);
      const double log_q = double{logits[target] - logits[top]} - log_sum;
      const double log_p = double{scale * static_cast<float>(row[4 + target]) + min_log_p};
      klds.push_back(divergence);
      deltas.push_back(std::exp(log_q) - std::exp(log_p));
      kld.Add(divergence);
      nll.Add(-log_q);
      base.Add(-log_p);
      product.Add(log_q * log_p);
      delta.Add(deltas.back());
      delta2.Add(deltas.back() * deltas.back());
      n_same += top == base_top ? 1 : 0;
    }
  }
  const double covariance =
      (product.value() - nll.value() * base.value()) / (product.n - 1);
  const double ratio_error = std::sqrt(nll.error() * nll.error() + base.error() * base.error() -
                                       2 * covariance);
  std::printf("predictions %.0f\n", product.n);
  std::printf("perplexity %.9g %.9g\n", std::exp(nll.value()), std::exp(nll.value()) * nll.error());
  std::printf("base_perplexity %.9g %.9g\n", std::exp(base.value()),
              std::exp(base.value()) * base.error());
  std::printf("ln_ratio %.9g %.9g\n", nll.value() - base.value(), ratio_error);
  std::printf("kld_mean %.9g %.9g\n", kld.value(), kld.error());
  PrintPercentiles("kld", klds);
  std::printf("delta_p_mean %.9g %.9g\n", delta.value(), delta.error());
  PrintPercentiles("delta_p", deltas);
  std::printf("rms_delta_p %.9g\n", std::sqrt(delta2.value()));
  std::printf("same_top %.9g\n", n_same / product.n);
}

void Logits(const std::string& path) {
  std::istringstream ids(ReadAll(std::cin));
  const std::vector<llama_token> tokens{std::istream_iterator<llama_token>(ids), {}};
  if (tokens.empty()) Fail("no token ids on stdin");
  const Model model = LoadModel(path, false);
  const Context context = MakeContext(model.get(), static_cast<uint32_t>(tokens.size()));
  const auto n_vocab =
      static_cast<size_t>(llama_vocab_n_tokens(llama_model_get_vocab(model.get())));
  Decode(context.get(), tokens, 0);
  for (size_t i = 0; i < tokens.size(); ++i) {
    WriteAll(llama_get_logits_ith(context.get(), static_cast<int32_t>(i)), n_vocab * sizeof(float));
  }
}

void QuantizeChunk(std::string_view type_name, int64_t n_cols, const char* importance_path) {
  const ggml_type type = TypeOf(type_name);
  const std::vector<float> values = FloatsOf(ReadAll(std::cin));
  if (n_cols <= 0 || values.size() % static_cast<size_t>(n_cols) != 0 ||
      n_cols % ggml_blck_size(type) != 0) {
    Fail("input is no whole number of rows");
  }
  std::vector<float> importance;
  if (importance_path != nullptr) importance = FloatsOf(ReadFile(importance_path));
  if (!importance.empty() && importance.size() != static_cast<size_t>(n_cols))
    Fail("importance is not COLS f32");
  const int64_t n_rows = static_cast<int64_t>(values.size()) / n_cols;
  std::vector<char> blocks(ggml_row_size(type, n_cols) * static_cast<size_t>(n_rows));
  ggml_quantize_chunk(type, values.data(), blocks.data(), 0, n_rows, n_cols,
                      importance.empty() ? nullptr : importance.data());
  WriteAll(blocks.data(), blocks.size());
}

void Dequantize(std::string_view type_name) {
  const ggml_type type = TypeOf(type_name);
  const std::string blocks = ReadAll(std::cin);
  const ggml_type_traits* traits = ggml_get_type_traits(type);
  if (traits->to_float == nullptr || blocks.size() % traits->type_size != 0)
    Fail("no whole number of blocks");
  const size_t n = blocks.size() / traits->type_size * static_cast<size_t>(traits->blck_size);
  std::vector<float> values(n);
  traits->to_float(blocks.data(), values.data(), static_cast<int64_t>(n));
  WriteAll(values.data(), n * sizeof(float));
}

constexpr std::pair<std::string_view, llama_ftype> kPresets[] = {
    {"f32", LLAMA_FTYPE_ALL_F32},          {"f16", LLAMA_FTYPE_MOSTLY_F16},
    {"bf16", LLAMA_FTYPE_MOSTLY_BF16},     {"q8_0", LLAMA_FTYPE_MOSTLY_Q8_0},
    {"q4_0", LLAMA_FTYPE_MOSTLY_Q4_0},     {"q4_1", LLAMA_FTYPE_MOSTLY_Q4_1},
    {"q5_0", LLAMA_FTYPE_MOSTLY_Q5_0},     {"q5_1", LLAMA_FTYPE_MOSTLY_Q5_1},
    {"q2_k", LLAMA_FTYPE_MOSTLY_Q2_K},     {"q2_k_s", LLAMA_FTYPE_MOSTLY_Q2_K_S},
    {"q3_k_s", LLAMA_FTYPE_MOSTLY_Q3_K_S}, {"q3_k_m", LLAMA_FTYPE_MOSTLY_Q3_K_M},
    {"q3_k_l", LLAMA_FTYPE_MOSTLY_Q3_K_L}, {"q4_k_s", LLAMA_FTYPE_MOSTLY_Q4_K_S},
    {"q4_k_m", LLAMA_FTYPE_MOSTLY_Q4_K_M}, {"q5_k_s", LLAMA_FTYPE_MOSTLY_Q5_K_S},
    {"q5_k_m", LLAMA_FTYPE_MOSTLY_Q5_K_M}, {"q6_k", LLAMA_FTYPE_MOSTLY_Q6_K},
    {"iq4_nl", LLAMA_FTYPE_MOSTLY_IQ4_NL}, {"iq4_xs", LLAMA_FTYPE_MOSTLY_IQ4_XS}};

// What llama.cpp logs while it quantizes; of a dry run there is no other trace.
std::string quantize_log;

// Prints "NAME TYPE" of lines like
//   [   1/ 291] output.weight  - [ 4096, 32000, 1, 1], type = f16, size = … MiB -> … MiB (q6_K)
// where the last type is missing for tensors that keep theirs.
void PrintPlan() {
  std::istringstream log(quantize_log);
  for (std::string line; std::getline(log, line);) {
    const size_t name = line.find("] ");
    const size_t type = line.find("], type = ");
    if (line[0] != '[' || name == std::string::npos || type == std::string::npos) continue;
    std::string tensor_name, final_type;
    std::istringstream(line.substr(name + 2)) >> tensor_name;
    std::istringstream(line.substr(type + 10)) >> final_type;
    if (line.back() == ')') final_type = line.substr(line.rfind('(') + 1);
    std::erase_if(final_type, [](char c) { return c == ',' || c == ')'; });
    for (char& c : final_type) c = static_cast<char>(std::tolower(c));
    std::printf("%s %s\n", tensor_name.c_str(), final_type.c_str());
  }
}

// Sums of squares of the inputs of a matrix, column by column, and of how many rows.
struct InputSums {
  std::vector<double> squares;
  double rows = 0;
};
using SumsByName = std::map<std::string, InputSums>;

// The evaluation callback: asked first whether a node is wanted, then called with its result.
bool Observe(ggml_tensor* node, bool ask, void* user_data) {
  if (node->op != GGML_OP_MUL_MAT) return !ask;
  const std::string name = node->src[0]->name;
  const ggml_tensor* x = node->src[1];
  const bool wanted =
      name.starts_with("blk.") && name.ends_with(".weight") && x->type == GGML_TYPE_F32;
  if (ask) return wanted;
  if (!wanted) return true;
  InputSums& sums = (*static_cast<SumsByName*>(user_data))[name];
  const auto cols = static_cast<size_t>(x->ne[0]);
  sums.squares.resize(cols);
  std::vector<float> row(cols);
  for (int64_t r = 0; r < ggml_nrows(x); ++r) {
    ggml_backend_tensor_get(x, row.data(), static_cast<size_t>(r) * x->nb[1], cols * sizeof(float));
    for (size_t c = 0; c < cols; ++c) sums.squares[c] += double{row[c]} * double{row[c]};
  }
  sums.rows += static_cast<double>(ggml_nrows(x));
  return true;
}

// Reads an importance matrix of the GGUF layout with ggml's own reader.
SumsByName ReadImatrix(const std::string& path) {
  ggml_context* data = nullptr;
  gguf_context* file = gguf_init_from_file(path.c_str(), {.no_alloc = false, .ctx = &data});
  if (file == nullptr) Fail(path + ": ggml refuses it");
  const int64_t type = gguf_find_key(file, "general.type");
  if (type < 0 || gguf_get_val_str(file, type) != std::string_view("imatrix")) {
    Fail(path + ": no importance matrix");
  }
  SumsByName all;
  for (ggml_tensor* t = ggml_get_first_tensor(data); t != nullptr;
       t = ggml_get_next_tensor(data, t)) {
    const std::string name = t->name;
    const auto* values = static_cast<const float*>(t->data);
    const auto n = static_cast<size_t>(ggml_nelements(t));
    const auto weight = [&](std::string_view suffix) {
      return name.substr(0, name.size() - suffix.size());
    };
    if (name.ends_with(".in_sum2")) all[weight(".in_sum2")].squares.assign(values, values + n);
    if (name.ends_with(".counts") && n == 1) all[weight(".counts")].rows = double{values[0]};
  }
  ggml_free(data);
  gguf_free(file);
  return all;
}

void CompareImatrix(const std::string& path, const std::string& text_path, uint32_t n_ctx,
                    const std::string& imatrix_path) {
  SumsByName theirs;
  const Model model = LoadModel(path, false);
  const llama_vocab* vocab = llama_model_get_vocab(model.get());
  const Context context = MakeContext(model.get(), n_ctx, Observe, &theirs);
  const std::vector<llama_token> tokens = Tokenize(vocab, ReadFile(text_path), true);
  for (size_t w = 0; w < tokens.size() / n_ctx; ++w) {
    const auto begin = tokens.begin() + static_cast<std::ptrdiff_t>(w * n_ctx);
    std::vector<llama_token> window(begin, begin + static_cast<std::ptrdiff_t>(n_ctx));
    if (llama_vocab_get_add_bos(vocab)) window[0] = llama_vocab_bos(vocab);
    Decode(context.get(), window, 0);
  }
  const SumsByName ours = ReadImatrix(imatrix_path);
  if (ours.size() != theirs.size()) Fail("not the same entries");
  double worst = 0;
  size_t n_values = 0;
  for (const auto& [name, sums] : theirs) {
    const auto found = ours.find(name);
    if (found == ours.end()) Fail(name + " is missing");
    if (found->second.squares.size() != sums.squares.size()) Fail(name + ": another width");
    if (found->second.rows != sums.rows) Fail(name + ": another number of rows");
    for (size_t c = 0; c < sums.squares.size(); ++c, ++n_values) {
      worst = std::max(worst, std::abs(found->second.squares[c] / sums.squares[c] - 1));
    }
  }
  std::printf("entries %zu values %zu difference %.9f\n", theirs.size(), n_values, worst);
}

void QuantizeModel(const std::string& in, const std::string& out, std::string_view type,
                   int n_threads, const std::string& imatrix_path) {
  llama_model_quantize_params params = llama_model_quantize_default_params();
  params.pure = type.find("+pure") != std::string_view::npos;
  params.quantize_output_tensor = type.find("+keep-output") == std::string_view::npos;
  const std::string_view preset = type.substr(0, type.find('+'));
  const auto row = std::find_if(std::begin(kPresets), std::end(kPresets),
                                [&](const auto& p) { return p.first == preset; });
  if (row == std::end(kPresets)) Fail("unknown preset " + std::string(preset));
  params.ftype = row->second;
  params.nthread = n_threads;
  params.dry_run = out == "-";
  std::list<std::string> names;  // whose addresses stay
  std::vector<llama_model_imatrix_data> imatrix;
  std::vector<float> ones;
  std::map<std::string, std::vector<float>> means;
  if (!imatrix_path.empty() && imatrix_path != "imatrix") {
    for (const auto& [name, sums] : ReadImatrix(imatrix_path)) {
      std::vector<float>& values = means[name];
      for (const double square : sums.squares) {
        values.push_back(static_cast<float>(square / sums.rows));
      }
    }
    for (const auto& [name, values] : means) {
      imatrix.push_back({name.c_str(), values.data(), values.size()});
    }
    imatrix.push_back({nullptr, nullptr, 0});
    params.imatrix = imatrix.data();
  } else if (!imatrix_path.empty()) {
    ggml_context* tensors = nullptr;
    gguf_context* header = gguf_init_from_file(in.c_str(), {.no_alloc = true, .ctx = &tensors});
    if (header == nullptr) Fail(in + ": no GGUF file");
    ones.assign(1 << 20, 1.0f);
    for (ggml_tensor* t = ggml_get_first_tensor(tensors); t != nullptr;
         t = ggml_get_next_tensor(tensors, t)) {
      if (ggml_n_dims(t) < 2) continue;
      if (static_cast<size_t>(t->ne[0]) > ones.size()) Fail("a row is too long");
      names.emplace_back(ggml_get_name(t));
      imatrix.push_back({names.back().c_str(), ones.data(), static_cast<size_t>(t->ne[0])});
    }
    imatrix.push_back({nullptr, nullptr, 0});
    ggml_free(tensors);
    gguf_free(header);
    params.imatrix = imatrix.data();
  }
  if (llama_model_quantize(in.c_str(), params.dry_run ? "/dev/null" : out.c_str(), &params) != 0) {
    Fail("llama_model_quantize failed:\n" + quantize_log);
  }
  if (params.dry_run) PrintPlan();
}

void Run(const std::vector<std::string>& args) {
  const auto is = [&](const char* name, size_t min, size_t max) {
    return !args.empty() && args[0] == name && args.size() > min && args.size() <= max + 1;
  };
  if (is("load", 1, 1)) return Load(args[1]);
  if (is("tokenize", 1, 2)) return TokenizeTexts(args[1], args.size() > 2 && args[2] == "special");
  if (is("perplexity", 3, 4)) {
    return Perplexity(args[1], args[2], static_cast<uint32_t>(std::stoul(args[3])),
                      args.size() > 4 ? std::stoul(args[4]) : SIZE_MAX);
  }
  if (is("save-logits", 4, 5)) {
    return SaveLogits(args[1], args[2], static_cast<uint32_t>(std::stoul(args[3])), args[4],
                      args.size() > 5 ? std::stoul(args[5]) : SIZE_MAX);
  }
  if (is("kl-divergence", 2, 2)) return KlDivergence(args[1], args[2]);
  if (is("logits", 1, 1)) return Logits(args[1]);
  if (is("quantize-chunk", 2, 3)) {
    return QuantizeChunk(args[1], std::stoll(args[2]), args.size() > 3 ? args[3].c_str() : nullptr);
  }
  if (is("dequantize", 1, 1)) return Dequantize(args[1]);
  if (is("quantize-model", 4, 5)) {
    return QuantizeModel(args[1], args[2], args[3], std::stoi(args[4]),
                         args.size() > 5 ? args[5] : "");
  }
  if (is("imatrix", 4, 4)) {
    return CompareImatrix(args[1], args[2], static_cast<uint32_t>(std::stoul(args[3])), args[4]);
  }
  Fail("usage: see the head of llama_driver.cc");
}

}  // namespace

int main(int argc, char** argv) {
  // llama.cpp's messages are wanted only when something goes wrong.
  llama_log_set(
      [](ggml_log_level level, const char* text, void*) {
        quantize_log += text;
        if (level >= GGML_LOG_LEVEL_WARN && level != GGML_LOG_LEVEL_CONT) std::fputs(text, stderr);
      },
      nullptr);
  // The folder holds one CPU library per family of processors; the best that runs here is chosen.
  ggml_backend_load_all_from_path(QUERN_LLAMA_LIBRARIES);
  llama_backend_init();
  int code = 0;
  try {
    Run({argv + 1, argv + argc});
    if (std::fflush(stdout) != 0) Fail("stdout: write failed");
  } catch (const std::exception& e) {
    std::fprintf(stderr, "llama_driver: %s\n", e.what());
    code = 1;
  }
  llama_backend_free();
  return code;
}
