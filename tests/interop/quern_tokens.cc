// quern_tokens GGUF [special]: the ids of texts from stdin as quern tokenizes them, one line each,
// in the format of `llama_driver tokenize`, so that the two can be compared byte by byte.
#include <algorithm>
#include <cstdio>
#include <exception>
#include <iostream>
#include <iterator>
#include <string>
#include <string_view>

#include "formats/model_file.h"
#include "verify/tokenize.h"

int main(int argc, char** argv) {
  if (argc < 2 || argc > 3) return 2;
  const bool add_special = argc == 3 && std::string_view(argv[2]) == "special";
  const std::string separator = "\n__ggml_vocab_test__\n";
  try {
    const auto model = quern::OpenModelFile(argv[1]);
    const quern::TextTokenizer tokenizer(model->manifest().tokenizer);
    const std::string input{std::istreambuf_iterator<char>(std::cin), {}};
    for (size_t begin = 0; begin < input.size();) {
      const size_t end = std::min(input.find(separator, begin), input.size());
      const auto text = std::string_view(input).substr(begin, end - begin);
      for (const int32_t id : tokenizer.Encode(text, add_special)) std::printf(" %d", id);
      std::printf("\n");
      begin = end + separator.size();
    }
  } catch (const std::exception& e) {
    std::fprintf(stderr, "quern_tokens: %s\n", e.what());
    return 1;
  }
  return 0;
}
