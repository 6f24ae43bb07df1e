#include "pgolf/base/hash.h"

#include <openssl/evp.h>

#include "pgolf/base/error.h"
#include "pgolf/base/format.h"

namespace pgolf {

struct Sha256::Context {
  EVP_MD_CTX* md = EVP_MD_CTX_new();
  ~Context() { EVP_MD_CTX_free(md); }
};

Sha256::Sha256() : context_(std::make_unique<Context>()) {
  if (context_->md == nullptr || EVP_DigestInit_ex(context_->md, EVP_sha256(), nullptr) != 1) {
    throw Error(ExitCode::internal, "libcrypto has no SHA-256");
  }
}

Sha256::~Sha256() = default;

void Sha256::update(BytesView bytes) {
  EVP_DigestUpdate(context_->md, bytes.data(), bytes.size());
}

std::string Sha256::hex() {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int length = 0;
  EVP_DigestFinal_ex(context_->md, digest, &length);
  std::string out;
  for (unsigned int i = 0; i < length; ++i) out += format("%02x", digest[i]);
  return out;
}

std::string sha256_hex(BytesView bytes) {
  Sha256 hash;
  hash.update(bytes);
  return hash.hex();
}

std::string base64(BytesView bytes) {
  std::string out((bytes.size() + 2) / 3 * 4 + 1, '\0');  // EVP_EncodeBlock ends it with a zero
  const auto* const from = reinterpret_cast<const unsigned char*>(bytes.data());
  out.resize(
      static_cast<size_t>(EVP_EncodeBlock(reinterpret_cast<unsigned char*>(out.data()), from, static_cast<int>(bytes.size()))));
  return out;
}

}  // namespace pgolf
