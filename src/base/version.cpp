#include "pgolf/base/version.h"

namespace pgolf {

const char* program_version() {
  return PGOLF_VERSION;
}

}  // namespace pgolf
