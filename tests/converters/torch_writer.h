// Writes torch zip checkpoints for tests: the container and the pickle as torch.save lays them out,
// with every liberty that real files take (views, strides, shared storages, wrappers).
// Source: caffe2/serialize/inline_container.cc and torch/_utils.py of pytorch/pytorch.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace quern::testing {

struct WrittenStorage {
  std::string torch_class;  // "BFloat16Storage"
  uint64_t elem_bytes = 2;
  std::vector<uint8_t> bytes;
  uint64_t n_zeros = 0;  // behind `bytes`; see WriteSparseTorchFile
  uint64_t size_bytes() const { return bytes.size() + n_zeros; }
};

struct WrittenTensor {
  std::string name;
  size_t storage = 0;  // index; several tensors may share one
  uint64_t offset_elems = 0;
  std::vector<uint64_t> shape, strides;
};

struct TorchFileStyle {
  std::string archive = "consolidated.00";  // the top folder inside the zip
  std::string wrapper;                      // "model": {'model': {…}, 'iter_num': 7}
  std::string prefix;                       // before each name: "_orig_mod."
  bool ordered_dict = false;                // OrderedDict instead of a plain dict
  bool sums = true;                         // false: set_crc32_options(False), every CRC-32 is 0
};

// A file with runs of zeros that are not stored.
struct SparseFile {
  struct Hole {
    uint64_t at;  // in the stored bytes: the zeros come before that byte
    uint64_t n_zeros;
  };
  std::vector<uint8_t> bytes;
  std::vector<Hole> holes;
};

// Returns the file, zeros of storages as holes.
// Requires: what is no zip64 field is below 4 GiB: each storage, and where the last one begins.
SparseFile WriteSparseTorchFile(const std::vector<WrittenStorage>& storages,
                                const std::vector<WrittenTensor>& tensors,
                                const TorchFileStyle& style = {});

// Returns the bytes of the file. Requires: no storage has zeros.
std::vector<uint8_t> WriteTorchFile(const std::vector<WrittenStorage>& storages,
                                    const std::vector<WrittenTensor>& tensors,
                                    const TorchFileStyle& style = {});

}  // namespace quern::testing
