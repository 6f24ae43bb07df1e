// SHA-256 (libcrypto), as lower-case hexadecimal.
#pragma once

#include <memory>
#include <string>

#include "pgolf/base/files.h"

namespace pgolf {

class Sha256 {
 public:
  Sha256();
  ~Sha256();
  void update(BytesView bytes);
  std::string hex();  ///< ends the stream; call once

 private:
  struct Context;
  std::unique_ptr<Context> context_;
};

std::string sha256_hex(BytesView bytes);

}  // namespace pgolf
