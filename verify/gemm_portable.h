// quern's own matrix product: blocked, single-threaded, compiled for every instruction set.
#pragma once

#include <cstddef>
#include <memory>

namespace quern {

// Floats at a multiple of a cache line.
class AlignedFloats {
 public:
  float* data() { return data_.get(); }
  const float* data() const { return data_.get(); }
  size_t size() const { return size_; }
  // Makes room for `n` floats; what was there is lost if it has to grow.
  void Reserve(size_t n);

 private:
  struct Free {
    void operator()(float* p) const;
  };
  std::unique_ptr<float[], Free> data_;
  size_t size_ = 0;
};

// A matrix B [k, n] in the order in which the kernel reads it: made once, multiplied with any
// number of rows. The object's memory is used again by the next Pack.
//
// C = A B, where each element is the sum over blocks of k of f32 sums: the same bits however the
// rows of A are split over calls, on one machine.
class PackedMatrix {
 public:
  // Packs the transpose of `w`: n rows of k floats, each `stride` floats behind the one before.
  // Requires: k > 0.
  void PackTransposed(const float* w, size_t stride, size_t n, size_t k);
  // Packs `b`: k rows of n floats, each `stride` floats behind the one before. Requires: k > 0.
  void Pack(const float* b, size_t stride, size_t k, size_t n);
  // Writes C [m, n] = A [m, k] B [k, n]. Strides are in floats.
  // Requires: `c` overlaps neither `a` nor the matrix.
  void Multiply(const float* a, size_t a_stride, size_t m, float* c, size_t c_stride) const;
  // The same with the first `used_k` rows and `used_n` columns of B only: A is [m, used_k], C
  // [m, used_n].
  void MultiplyPart(const float* a, size_t a_stride, size_t m, size_t used_k, size_t used_n,
                    float* c, size_t c_stride) const;

  size_t n() const { return n_; }
  size_t k() const { return k_; }

 private:
  AlignedFloats panels_;
  size_t n_ = 0;
  size_t k_ = 0;
};

}  // namespace quern
