// SHA-256, as lower-case hexadecimal, and base64 (libcrypto).
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

/// RFC 4648, with padding.
std::string base64(BytesView bytes);

}  // namespace pgolf
