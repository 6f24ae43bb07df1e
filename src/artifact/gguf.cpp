#include "pgolf/artifact/gguf.h"

#include <bit>
#include <string_view>
#include <type_traits>

#include "pgolf/base/error.h"

namespace pgolf {
namespace {

static_assert(std::endian::native == std::endian::little, "numbers are copied as stored in memory");

constexpr uint32_t version = 3;
constexpr uint64_t alignment = 32;  // the format's default

/// Value types as files number them.
template <typename T>
constexpr uint32_t type_of() {
  if constexpr (std::is_same_v<T, uint8_t>) return 0;
  if constexpr (std::is_same_v<T, uint32_t>) return 4;
  if constexpr (std::is_same_v<T, int32_t>) return 5;
  if constexpr (std::is_same_v<T, float>) return 6;
  if constexpr (std::is_same_v<T, bool>) return 7;
  if constexpr (std::is_same_v<T, std::string>) return 8;
  return 9;  // an array
}

uint32_t tensor_type(DType dtype) {
  switch (dtype) {
    case DType::float32:
      return 0;
    case DType::float16:
      return 1;
    case DType::bfloat16:
      return 30;
    default:
      throw Error(ExitCode::internal, std::string("GGUF tensors of ") + dtype_name(dtype) + " are not written");
  }
}

class Writer {
 public:
  std::string bytes;

  template <typename T>
  void add(const T& number) {
    bytes.append(reinterpret_cast<const char*>(&number), sizeof number);
  }
  void add(const std::string& text) {
    add(uint64_t{text.size()});
    bytes += text;
  }
  template <typename T>
  void add(const std::vector<T>& values) {
    add(type_of<T>());
    add(uint64_t{values.size()});
    for (const T& value : values) add(value);
  }
  void add(const GgufValue& value) {
    std::visit(
        [&](const auto& held) {
          add(type_of<std::decay_t<decltype(held)>>());
          add(held);
        },
        value);
  }
};

uint64_t padding(uint64_t size) {
  return (alignment - size % alignment) % alignment;
}

}  // namespace

void save_gguf(const std::filesystem::path& path, const Gguf& content) {
  Writer header;
  header.bytes = "GGUF";
  header.add(version);
  header.add(uint64_t{content.tensors.size()});
  header.add(uint64_t{content.metadata.size()});
  for (const auto& [key, value] : content.metadata) {
    header.add(key);
    header.add(value);
  }
  uint64_t offset = 0;
  for (const auto& [name, tensor] : content.tensors) {
    header.add(name);
    header.add(static_cast<uint32_t>(tensor.shape.size()));
    for (auto size = tensor.shape.rbegin(); size != tensor.shape.rend(); ++size) header.add(static_cast<uint64_t>(*size));
    header.add(tensor_type(tensor.dtype));
    header.add(offset);
    offset += tensor.bytes->size() + padding(tensor.bytes->size());
  }
  header.bytes.resize(header.bytes.size() + padding(header.bytes.size()));

  AtomicFile file(path);
  file.write(as_bytes(header.bytes));
  const std::string zeros(alignment, '\0');
  for (const auto& entry : content.tensors) {
    const Bytes& bytes = *entry.second.bytes;
    file.write(bytes);
    file.write(as_bytes(std::string_view(zeros).substr(0, padding(bytes.size()))));
  }
  file.commit();
}

}  // namespace pgolf
