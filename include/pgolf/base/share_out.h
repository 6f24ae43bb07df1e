// Independent jobs on several threads.
#pragma once

#include <cstddef>
#include <functional>

namespace pgolf {

/// Calls job(0) .. job(count - 1) on up to `threads` threads, this one among them; each takes the next index. After an exception
/// no further job begins, and the first one is thrown here once all threads have ended.
void share_out(size_t count, int threads, const std::function<void(size_t)>& job);

}  // namespace pgolf
