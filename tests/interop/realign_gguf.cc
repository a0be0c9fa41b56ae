// realign_gguf IN ALIGNMENT OUT: copies a GGUF file and lays its tensors out for another alignment.
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <memory>

#include "formats/core/file.h"
#include "formats/core/stream.h"
#include "formats/gguf_writer.h"
#include "formats/model_file.h"

namespace quern {
namespace {

void Realign(const char* in, uint32_t alignment, const char* out) {
  const auto model = OpenModelFile(in);
  Manifest manifest = model->manifest();
  manifest.alignment = alignment;
  const auto sink = MakeGgufWriter(OpenOutput(out, {.force = true, .inputs = {}, .expected_bytes = 0}));
  sink->Begin(manifest);
  for (size_t i = 0; i < manifest.tensors.size(); ++i) {
    const TensorInfo& tensor = manifest.tensors[i];
    std::vector<uint8_t> bytes(tensor.size_bytes());
    model->ReadRows(i, 0, tensor.rows(), bytes);
    sink->Put({i, 0, tensor.rows(), bytes});
  }
  sink->Finish();
}

}  // namespace
}  // namespace quern

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  try {
    quern::Realign(argv[1], static_cast<uint32_t>(std::atoi(argv[2])), argv[3]);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "realign_gguf: %s\n", e.what());
    return 1;
  }
  return 0;
}
