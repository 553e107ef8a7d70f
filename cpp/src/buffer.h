// A block of floats for the length of one call, aligned for vectors and, where large, for huge pages: the kernels
// touch rows at random, and with small pages every row would cost a look-up of its address.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace fanin {

class Buffer {
 public:
  explicit Buffer(std::int64_t floats) {
    const std::size_t bytes = static_cast<std::size_t>(floats > 0 ? floats : 1) * sizeof(float);
    const std::size_t alignment = bytes >= kHugePage / 4 ? kHugePage : 64;
    data_ = static_cast<float*>(std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment));
    if (data_ == nullptr) throw std::bad_alloc();
#if defined(__linux__)
    if (alignment == kHugePage) madvise(data_, (bytes + alignment - 1) / alignment * alignment, MADV_HUGEPAGE);
#endif
  }
  ~Buffer() { std::free(data_); }
  Buffer(Buffer&& other) noexcept : data_(other.data_) { other.data_ = nullptr; }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  Buffer& operator=(Buffer&&) = delete;

  float* data() const { return data_; }

 private:
  static constexpr std::size_t kHugePage = std::size_t{1} << 21;
  float* data_;
};

}  // namespace fanin
