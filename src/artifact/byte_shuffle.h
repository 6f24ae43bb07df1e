// The start of shuffled bytes.
#pragma once

#include "pgolf/base/files.h"

namespace pgolf {

inline constexpr char shuffle_magic[] = {'B', 'S', 'H', 'F'};

/// The magic number and a stride.
bool starts_like_shuffled(BytesView bytes);

}  // namespace pgolf
