#include "fanin/instruction_set.h"

#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>

namespace fanin {

const KernelTable* kernels_named(const char* name) {
#if defined(FANIN_X86)
  __builtin_cpu_init();
  if (std::strcmp(name, "avx512") == 0 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("fma")) {
    return &avx512_kernels();
  }
  if (std::strcmp(name, "avx2") == 0 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    return &avx2_kernels();
  }
#endif
  return std::strcmp(name, "portable") == 0 ? &portable_kernels() : nullptr;
}

namespace {

const KernelTable& choose() {
  const char* forced = std::getenv("FANIN_CPU_ISA");
  if (forced != nullptr && *forced != '\0') {
    if (const KernelTable* table = kernels_named(forced)) return *table;
    throw std::runtime_error("the environment variable FANIN_CPU_ISA names the instruction set '" +
                             std::string(forced) +
                             "', which is unknown or not supported by this processor; use avx512, avx2 or portable, "
                             "or unset it");
  }
  for (const char* name : {"avx512", "avx2"}) {
    if (const KernelTable* table = kernels_named(name)) return *table;
  }
  return portable_kernels();
}

}  // namespace

const KernelTable& kernels() {
  static const KernelTable& table = choose();
  return table;
}

}  // namespace fanin
