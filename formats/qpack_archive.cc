#include "formats/qpack_archive.h"

#include <fmt/format.h>
#include <oneapi/tbb/parallel_for.h>
#include <oneapi/tbb/task_arena.h>

#include <algorithm>
#include <cstring>
#include <exception>

#include "formats/qpack_parts.h"

namespace quern {

std::unique_ptr<QpackDecoders::Worker> QpackDecoders::Take() {
  {
    const std::lock_guard lock(mutex_);
    if (!idle_.empty()) {
      std::unique_ptr<Worker> worker = std::move(idle_.back());
      idle_.pop_back();
      return worker;
    }
  }
  return std::make_unique<Worker>();
}

void QpackDecoders::Give(std::unique_ptr<Worker> worker) noexcept {
  const std::lock_guard lock(mutex_);
  // If there is no memory for the list, the worker is freed instead of kept.
  try {
    idle_.push_back(std::move(worker));
  } catch (const std::bad_alloc&) {
  }
}

void ForEachInParallel(size_t n, const std::function<void(size_t)>& action) {
  if (n == 1) return action(0);
  std::vector<std::exception_ptr> errors(n);
  // Isolated: a thread that waits here must not take up other work of the pass that called.
  tbb::this_task_arena::isolate([&] {
    tbb::parallel_for(size_t{0}, n, [&](size_t i) {
      try {
        action(i);
      } catch (...) {
        errors[i] = std::current_exception();
      }
    });
  });
  for (const std::exception_ptr& error : errors) {
    if (error) std::rethrow_exception(error);
  }
}

Error PlacedAtSegment(Error error, const std::string& file, const QpackPiece& piece,
                      uint64_t packed_offset, const std::vector<std::string>& names) {
  const std::string segment = fmt::format("segment {}", piece.segment);
  return error.File(Escaped(file, 4096))
      .Where(piece.tensor ? fmt::format("tensor {}, {}", Quoted(names[*piece.tensor]), segment)
                          : segment)
      .Offset(packed_offset)
      .Hint("the file is damaged; fetch it again, or pack the model again");
}

size_t ViewStream::Read(MutableByteView out) {
  const size_t n = std::min<size_t>(out.size(), bytes_.size() - position_);
  if (n != 0) std::memcpy(out.data(), bytes_.data() + position_, n);
  position_ += n;
  return n;
}

std::vector<std::string> TensorNames(const GgufHeader& header) {
  std::vector<std::string> names;
  for (const TensorInfo& tensor : header.tensors) names.push_back(tensor.name);
  return names;
}

}  // namespace quern
