// The version of these programs.
#pragma once

namespace pgolf {

const char* program_version();  ///< "0.1.0"

}  // namespace pgolf
