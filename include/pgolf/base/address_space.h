// Limits on address space (ulimit -v) that constructors of libraries would not survive: every program checks for 2 MiB before
// they run, programs with LibTorch for more (train/relaunch.cpp).
#pragma once

#include <cstddef>

namespace pgolf {

/// Ends the program with `error` (lines for standard error) and ExitCode::unavailable if less than `bytes` of address space are
/// left. To be called from .preinit_array: allocates nothing, throws nothing and needs no constructor. Without a limit, or
/// without /proc to see what is used, it returns.
void require_address_space(size_t bytes, const char* error);

}  // namespace pgolf
