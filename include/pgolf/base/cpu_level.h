// The processor's vector instructions, as the levels that the kernels are compiled for.
#pragma once

#include <optional>
#include <string_view>

namespace pgolf {

/// Each level includes those before it. portable: the compiler's baseline (SSE2 on x86-64). avx2: with FMA. avx512: F, BW, DQ and
/// VL. avx512bf16: bfloat16 dot products in vectors. amx: the same in tiles.
enum class CpuLevel { portable, avx2, avx512, avx512bf16, amx };

const char* cpu_level_name(CpuLevel level);
std::optional<CpuLevel> cpu_level_of(std::string_view name);  ///< nullopt: not the name of a level

/// The highest level that this processor and operating system support. Does not allocate; requests tile permission from Linux.
CpuLevel processor_level();

/// The environment variable that caps cpu_level(), for tests and comparisons: the name of a level.
constexpr const char* kCpuLevelVariable = "PGOLF_CPU_LEVEL";

/// processor_level(), capped. The first call reads the variable: Error(usage) if it is not the name of a level.
CpuLevel cpu_level();

}  // namespace pgolf
