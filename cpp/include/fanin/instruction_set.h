// Which instruction set runs: the best that the processor has, or the one that FANIN_CPU_ISA names.
#pragma once

#include "fanin/kernel_table.h"

namespace fanin {

// The kernels in use, chosen at the first call. Throws std::runtime_error where FANIN_CPU_ISA names an instruction
// set that is unknown, not compiled in, or not supported by the processor.
const KernelTable& kernels();

// The kernels of one instruction set by name ("avx512", "avx2", "portable"), or null where they cannot run here.
const KernelTable* kernels_named(const char* name);

}  // namespace fanin
